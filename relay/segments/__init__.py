"""The local segment table: cohort lists, the directory, and the segments both give.

A *list* is who is in a cohort, as Amplitude says it. The *directory* is whom OneSignal knows.
A *segment* is their meeting: its members are not stored but joined, so that they cannot
disagree with either; what is stored are its figures and every change, written in the very
transaction that changes a list or the directory.
"""
