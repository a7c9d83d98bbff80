"""What is switched on for a while: for a number of requests, for seconds, or until cleared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import anyio

from relay.clock import Clock
from relay.sandbox.answers import JsonObject


class Limited(Protocol):
    """Something with its limits (a pydantic model)."""

    @property
    def count(self) -> int | None:
        """How many requests it meets; None = any number."""

    @property
    def seconds(self) -> float | None:
        """How long it lasts from the moment it is added; None = until cleared."""

    def model_dump(self, *, mode: str, exclude_none: bool) -> JsonObject:
        """Return it as JSON."""


Entry = TypeVar("Entry", bound=Limited)


@dataclass(slots=True)
class _Armed(Generic[Entry]):
    entry: Entry
    left: int | None
    until_s: float | None


class Board(Generic[Entry]):
    """The entries that are switched on; they are used up in the order they were added."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._armed: list[_Armed[Entry]] = []
        self._changed = anyio.Event()
        self._cleared = anyio.Event()
        self._listeners: list[Callable[[], None]] = []

    def arm(self, entry: Entry) -> None:
        """Switch a checked entry on."""
        until_s = None if entry.seconds is None else self._clock.monotonic_s() + entry.seconds
        self._armed.append(_Armed(entry, entry.count, until_s))
        self._tell()

    def clear(self) -> None:
        """Switch everything off; requests that hang are dropped."""
        self._armed.clear()
        cleared, self._cleared = self._cleared, anyio.Event()
        cleared.set()
        self._tell()

    def active(self) -> list[Entry]:
        """Return what is on, in the order in which it will be met."""
        self._drop_expired()
        return [armed.entry for armed in self._armed]

    def describe(self) -> list[JsonObject]:
        """Return what is on, with what is left of it."""
        self._drop_expired()
        now_s = self._clock.monotonic_s()
        return [
            {
                **armed.entry.model_dump(mode="json", exclude_none=True),
                "left_count": armed.left,
                "left_seconds": None if armed.until_s is None else round(armed.until_s - now_s, 3),
            }
            for armed in self._armed
        ]

    def take_first(self, is_met: Callable[[Entry], bool]) -> Entry | None:
        """Return the first entry the next request meets, and count it."""
        self._drop_expired()
        for armed in self._armed:
            if not is_met(armed.entry):
                continue
            if armed.left is not None:
                armed.left -= 1
            return armed.entry
        return None

    @property
    def cleared(self) -> anyio.Event:
        """Set when everything is next switched off; a new one each time."""
        return self._cleared

    @property
    def changed(self) -> anyio.Event:
        """Set when entries are next switched on or off; a new one each time."""
        return self._changed

    def next_expiry_s(self) -> float | None:
        """Return in how many seconds the first entry expires; None if none will."""
        untils = [armed.until_s for armed in self._armed if armed.until_s is not None]
        return max(0.0, min(untils) - self._clock.monotonic_s()) if untils else None

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` at once whenever entries are switched on or off."""
        self._listeners.append(listener)

    def _drop_expired(self) -> None:
        now_s = self._clock.monotonic_s()
        self._armed = [
            armed
            for armed in self._armed
            if (armed.until_s is None or now_s < armed.until_s)
            and (armed.left is None or armed.left > 0)
        ]

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        for listener in self._listeners:
            listener()
