"""How many uploads of an app may be under way at once: as many as Amplitude takes.

A failure halves the number at once; it comes back one by one, each after a run of uploads that
were taken while all places were used. So an overloaded Amplitude is left in peace within one
round trip, and a lasting limit is approached from below. A pure state machine.
"""

GROW_AFTER = 10
"""Uploads taken at the present number before one more is tried."""


class Concurrency:
    """The number of uploads that may be under way at once.

    Attributes:
        limit: That number now, between 1 and the number of senders.
    """

    def __init__(self, senders: int) -> None:
        self._senders = senders
        self._taken = 0
        self.limit = senders

    def fall(self) -> None:
        """An upload failed for want of room, time or health at the other side."""
        self.limit = max(1, self.limit // 2)
        self._taken = 0

    def note_taken(self, under_way: int) -> None:
        """An upload was taken while so many were under way, itself among them."""
        if under_way < self.limit or self.limit == self._senders:
            return
        self._taken += 1
        if self._taken >= GROW_AFTER:
            self.limit += 1
            self._taken = 0
