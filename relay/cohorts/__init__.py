"""Cohorts of Amplitude: what is known of them, when they are fetched, what may be applied."""
