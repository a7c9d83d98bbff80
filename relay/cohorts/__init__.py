"""Keeping Amplitude's cohorts current: polled within a download budget, pushed by its webhook."""
