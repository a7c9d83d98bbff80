"""What happened, step by step: the fingerprint of a run, and the moments to kill a process."""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b

LINES_KEPT = 60

Listener = Callable[[str], None]


class Journal:
    """The steps of one run, in order.

    Attributes:
        steps: Their number.
        tail: The last of them, for diagnosing a failure.
    """

    def __init__(self, now_s: Callable[[], float], listener: Listener | None = None) -> None:
        self._now_s = now_s
        self._listener = listener
        self._digest = blake2b(digest_size=8)
        self._watched: str | None = None
        self._countdown = 0
        self._due: Callable[[], None] = lambda: None
        self.steps = 0
        self.tail: deque[str] = deque(maxlen=LINES_KEPT)

    def note(self, kind: str, *what: object) -> None:
        """Record a step, and run what was scheduled for it."""
        line = f"{self._now_s():.6f} {kind} {' '.join(map(str, what))}"
        self.steps += 1
        self.tail.append(line)
        self._digest.update(line.encode())
        if self._listener:
            self._listener(line)
        if kind == self._watched:
            self._countdown -= 1
            if self._countdown <= 0:
                self._watched = None
                self._due()

    def at(self, kind: str, times: int, act: Callable[[], None]) -> None:
        """Call `act` in the very step that is the `times`-th of a kind from now."""
        self._watched, self._countdown, self._due = kind, times, act

    def forget(self) -> None:
        """Cancel what is scheduled."""
        self._watched = None

    @property
    def fingerprint(self) -> str:
        """Differs if any step differed."""
        return self._digest.hexdigest()
