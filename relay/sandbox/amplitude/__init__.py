"""Amplitude's upload APIs, as a strict stand-in."""
