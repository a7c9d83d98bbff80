"""What an event is: from the bytes of a request to the bytes Amplitude gets.

Floor 1, pure: nothing here awaits, reads or writes, or knows what time it is.
"""
