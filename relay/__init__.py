"""A durable bridge between OneSignal and Amplitude."""

__version__ = "0.1.0"
