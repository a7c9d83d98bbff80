"""Amplitude's APIs and files: uploads and what their answers mean, cohorts, lists, messages."""
