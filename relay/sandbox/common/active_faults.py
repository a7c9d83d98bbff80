"""The faults of one stand-in that are switched on at present.

They are used up in the order they were added, so that a series of failures can be laid
down in advance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from relay.clock import Clock
from relay.sandbox.common.faults import Fault
from relay.sandbox.common.replies import JsonObject

FaultT = TypeVar("FaultT", bound=Fault)


@dataclass(slots=True)
class _Armed(Generic[FaultT]):
    fault: FaultT
    left: int | None
    until_s: float | None


class ActiveFaults(Generic[FaultT]):
    """The faults that are switched on, in order.

    Attributes:
        kind: The faults there are for this stand-in.
        changed: Set when faults are next switched on or off; a new one each time.
        cleared: Set when all are next switched off; a new one each time.
    """

    def __init__(self, kind: type[FaultT], clock: Clock) -> None:
        self.kind = kind
        self.changed = anyio.Event()
        self.cleared = anyio.Event()
        self._clock = clock
        self._armed: list[_Armed[FaultT]] = []
        self._listeners: list[Callable[[], None]] = []

    def add(self, name: str | int, **limits: object) -> FaultT:
        """Switch a fault on, after those that are on already.

        Raises:
            pydantic.ValidationError: If there is no such fault or its limits are nonsense.
        """
        fault = self.kind.model_validate({"name": name, **limits})
        self.arm(fault)
        return fault

    def arm(self, *faults: FaultT) -> None:
        """Switch checked faults on."""
        now_s = self._clock.monotonic_s()
        for fault in faults:
            until_s = None if fault.seconds is None else now_s + fault.seconds
            self._armed.append(_Armed(fault, fault.count, until_s))
        self._announce()

    def clear(self) -> None:
        """Switch everything off; requests that hang are dropped."""
        self._armed.clear()
        cleared, self.cleared = self.cleared, anyio.Event()
        cleared.set()
        self._announce()

    def active(self) -> list[FaultT]:
        """Return what is on, in the order in which requests will meet it."""
        self._drop_expired()
        return [armed.fault for armed in self._armed]

    def consume(self, is_met: Callable[[FaultT], bool]) -> FaultT | None:
        """Return the first fault the next request meets, and count that request."""
        self._drop_expired()
        for armed in self._armed:
            if is_met(armed.fault):
                # Counted now, not when it is answered: two requests at once meet two counts.
                if armed.left is not None:
                    armed.left -= 1
                return armed.fault
        return None

    def describe(self) -> list[JsonObject]:
        """Return what is on as JSON, with what is left of it."""
        self._drop_expired()
        now_s = self._clock.monotonic_s()
        return [
            {
                **armed.fault.model_dump(mode="json", exclude_none=True),
                "left_count": armed.left,
                "left_seconds": None if armed.until_s is None else round(armed.until_s - now_s, 3),
            }
            for armed in self._armed
        ]

    def is_refusing(self) -> bool:
        """Tell whether connections are to be refused."""
        return any(fault.closes_door for fault in self.active())

    def next_expiry_s(self) -> float | None:
        """Return in how many seconds the first fault expires; None if none will."""
        untils = [armed.until_s for armed in self._armed if armed.until_s is not None]
        return max(0.0, min(untils) - self._clock.monotonic_s()) if untils else None

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` at once whenever faults are switched on or off."""
        self._listeners.append(listener)

    def _drop_expired(self) -> None:
        now_s = self._clock.monotonic_s()
        self._armed = [
            armed
            for armed in self._armed
            if (armed.until_s is None or now_s < armed.until_s)
            and (armed.left is None or armed.left > 0)
        ]

    def _announce(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()
        for listener in self._listeners:
            listener()
