"""Amplitude: its upload API and the meaning of its answers."""
