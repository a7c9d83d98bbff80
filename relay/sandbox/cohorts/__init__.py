"""Amplitude's cohorts: the export API, its file storage and the cohort webhook."""
