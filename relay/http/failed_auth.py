"""Guesses at secrets: each wrong one from an address is answered later than the one before.

Only what is wrong waits. Behind a reverse proxy or a tunnel all callers share an address, and
which address a header names is the caller's word; so nobody who knows the secret is slowed, or
locked out, by others who do not.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import Final

import anyio
import structlog

log = structlog.get_logger(__name__)

UNKNOWN: Final = "unknown"

NETWORK_BITS: Final = 64
"""Of an IPv6 address: a subscriber has as many addresses as fit into the rest."""


@dataclass(frozen=True, slots=True)
class Slowness:
    """How wrong secrets are slowed.

    Attributes:
        free: Of an address, answered at once: people mistype, and settings get old.
        first_s: How long the next one waits; twice that the one after it.
        longest_s: The longest wait.
        quiet_s: After so long without a wrong secret an address is forgotten.
        attack: Wrong secrets of an address that make an attack.
        most_waiting: Answers; beyond that the one that has waited longest goes.
        most_addresses: Remembered; beyond that the one quiet for longest is forgotten.
        most_attacks: Told in the log at a time.
    """

    free: int = 5
    first_s: float = 0.1
    longest_s: float = 3.0
    quiet_s: float = 60.0
    attack: int = 20
    most_waiting: int = 64
    most_addresses: int = 1000
    most_attacks: int = 16

    def wait_s(self, count: int) -> float:
        """Return how long the answer to an address's `count`-th wrong secret waits."""
        if count <= self.free:
            return 0
        doublings = min(count - self.free - 1, 30)  # past all sense, and far from overflow
        return min(self.first_s * 2.0**doublings, self.longest_s)


def slowness_for(connections: int) -> Slowness:
    """Return what suits a door of so many connections: few of them are kept waiting."""
    usual = Slowness()
    return replace(usual, most_waiting=max(1, min(usual.most_waiting, connections // 4)))


@dataclass(slots=True)
class _Guesser:
    began_s: float
    last_s: float
    count: int = 0
    is_told: bool = False


class FailedAuthThrottle:
    """Remembers who guesses, and makes each wrong guess wait."""

    def __init__(self, slowness: Slowness | None = None) -> None:
        self._slowness = slowness or Slowness()
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()
        self._waiting: OrderedDict[anyio.Event, None] = OrderedDict()
        self._is_stopping = False

    async def slow(self, address: str | None) -> None:
        """Return when a wrong secret from that address may be answered."""
        wait_s = self._slowness.wait_s(self._count(address))
        if not wait_s or self._is_stopping:
            return
        if len(self._waiting) >= self._slowness.most_waiting:
            self._waiting.popitem(last=False)[0].set()
        released = anyio.Event()
        self._waiting[released] = None
        try:
            with anyio.move_on_after(wait_s):
                await released.wait()
        finally:
            self._waiting.pop(released, None)

    def stop(self) -> None:
        """Let everybody who waits, or still comes, have the answer."""
        self._is_stopping = True
        for released in self._waiting:
            released.set()

    async def run(self) -> None:
        """Forget addresses that have become quiet, for as long as the daemon lives."""
        while True:
            await anyio.sleep(self._slowness.quiet_s / 4)
            self._forget_quiet()

    def _count(self, address: str | None) -> int:
        """Note a wrong secret and return how many there were from that address."""
        origin, now_s = _origin(address), anyio.current_time()
        guesser = self._guessers.get(origin)
        if guesser is None or now_s - guesser.last_s >= self._slowness.quiet_s:
            self._forget(origin)
            if len(self._guessers) >= self._slowness.most_addresses:
                self._forget(next(iter(self._guessers)))
            guesser = self._guessers[origin] = _Guesser(now_s, now_s)
        guesser.count += 1
        guesser.last_s = now_s
        self._guessers.move_to_end(origin)
        if guesser.count == self._slowness.attack:
            self._tell(origin, guesser)
        return guesser.count

    def _tell(self, origin: str, guesser: _Guesser) -> None:
        told = sum(other.is_told for other in self._guessers.values())
        if told < self._slowness.most_attacks:
            guesser.is_told = True
            log.warning("guessing.begun", address=origin, wrong=guesser.count)

    def _forget_quiet(self) -> None:
        quiet_since_s = anyio.current_time() - self._slowness.quiet_s
        quiet = [
            origin for origin, guesser in self._guessers.items() if guesser.last_s <= quiet_since_s
        ]
        for origin in quiet:
            self._forget(origin)

    def _forget(self, origin: str) -> None:
        guesser = self._guessers.pop(origin, None)
        if guesser is not None and guesser.is_told:
            duration_s = round(guesser.last_s - guesser.began_s, 1)
            log.warning(
                "guessing.ended", address=origin, wrong=guesser.count, duration_s=duration_s
            )


def _origin(address: str | None) -> str:
    """Return what stands for everybody who can choose between addresses like this one."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return UNKNOWN
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    rest_bits = parsed.max_prefixlen - NETWORK_BITS
    return f"{IPv6Address(int(parsed) >> rest_bits << rest_bits)}/{NETWORK_BITS}"
