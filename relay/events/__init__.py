"""Message events, from the bytes of a request to the bytes Amplitude gets.

Everything here is pure: no I/O, no waiting, no clock.
"""
