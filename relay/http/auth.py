"""Who may call: secrets compared in constant time, and guesses at them slowed down."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address
from typing import Final

import anyio
import structlog
from aiohttp import web

log = structlog.get_logger(__name__)

BEARER: Final = "bearer "

UNKNOWN: Final = "unknown"

NETWORK_BITS: Final = 64
"""Of an IPv6 address: one subscriber controls all addresses of such a network."""


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogateescape")).digest()


class Tokens:
    """Secrets any one of which is enough.

    Digests of equal length are compared, and always all of them, so that the time taken
    reveals nothing about a token's text, length or position.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.renew(tokens)

    def renew(self, tokens: Iterable[str]) -> None:
        """Accept these tokens from now on, and no others."""
        self._digests = [_digest(token) for token in tokens]

    @property
    def are_none(self) -> bool:
        """Whether there is no secret at all, so that none can be presented."""
        return not self._digests

    def admit(self, presented: Iterable[str]) -> bool:
        """Return whether one of the presented tokens is accepted."""
        admitted = False
        for token in presented:
            digest = _digest(token)
            for known in self._digests:
                admitted |= compare_digest(digest, known)
        return admitted


NOBODY: Final = Tokens([""])
"""Stands for an unknown app, so that its refusal takes as long as a wrong token's."""


def presented_tokens(request: web.BaseRequest, header: str | None = None) -> list[str]:
    """Return the tokens of a request: its bearer token, and the value of `header`."""
    tokens = []
    authorization = request.headers.get("Authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        tokens.append(authorization[len(BEARER) :].strip())
    if header and header in request.headers:
        tokens.append(request.headers[header].strip())
    return [token for token in tokens if token]


@dataclass(frozen=True, slots=True)
class ThrottlePolicy:
    """How wrong secrets are slowed down.

    Attributes:
        free: Per address, answered at once: people mistype, and settings get old.
        first_s: Delay of the next one; each further one waits twice as long.
        longest_s: The longest delay.
        quiet_s: After this time without a wrong secret an address is forgotten.
        attack: Wrong secrets of one address that count as an attack.
        most_waiting: Delayed answers at once; beyond that the oldest is released.
        most_addresses: Remembered at once; beyond that the quietest is forgotten.
        most_attacks: Attacks logged at once.
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
        """Return how long the answer to an address's `count`-th wrong secret is delayed."""
        if count <= self.free:
            return 0
        doublings = min(count - self.free - 1, 30)  # far beyond the cap, far below overflow
        return min(self.first_s * 2.0**doublings, self.longest_s)


def throttle_policy_for(connections: int) -> ThrottlePolicy:
    """Return the policy of a door with at most `connections`: a quarter of them may be delayed."""
    usual = ThrottlePolicy()
    return replace(usual, most_waiting=max(1, min(usual.most_waiting, connections // 4)))


@dataclass(slots=True)
class _Guesser:
    began_s: float
    last_s: float
    count: int = 0
    is_logged: bool = False


class FailedAuthThrottle:
    """Delays the answer to each wrong secret, longer than that to the one before.

    Only wrong secrets wait. Behind a reverse proxy or a tunnel all clients share one address, and
    a forwarding header says whatever the client wants; so nobody who knows the secret is slowed
    down or locked out by those who do not.
    """

    def __init__(self, policy: ThrottlePolicy | None = None) -> None:
        self._policy = policy or ThrottlePolicy()
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()
        self._waiting: OrderedDict[anyio.Event, None] = OrderedDict()
        self._is_stopping = False

    async def slow(self, address: str | None) -> None:
        """Return once a wrong secret from this address may be answered."""
        wait_s = self._policy.wait_s(self._count(address))
        if not wait_s or self._is_stopping:
            return
        # A flood of guesses must not hold every connection of the door.
        if len(self._waiting) >= self._policy.most_waiting:
            self._waiting.popitem(last=False)[0].set()
        released = anyio.Event()
        self._waiting[released] = None
        try:
            with anyio.move_on_after(wait_s):
                await released.wait()
        finally:
            self._waiting.pop(released, None)

    def stop(self) -> None:
        """Answer all delayed requests, and later ones, at once."""
        self._is_stopping = True
        for released in self._waiting:
            released.set()

    async def run(self) -> None:
        """Forget quiet addresses until cancelled."""
        while True:
            await anyio.sleep(self._policy.quiet_s / 4)
            self._forget_quiet()

    def _count(self, address: str | None) -> int:
        """Record a wrong secret and return how many there were from its network."""
        origin, now_s = _origin(address), anyio.current_time()
        guesser = self._guessers.get(origin)
        if guesser is None or now_s - guesser.last_s >= self._policy.quiet_s:
            self._forget(origin)
            if len(self._guessers) >= self._policy.most_addresses:
                self._forget(next(iter(self._guessers)))
            guesser = self._guessers[origin] = _Guesser(now_s, now_s)
        guesser.count += 1
        guesser.last_s = now_s
        self._guessers.move_to_end(origin)
        if guesser.count == self._policy.attack:
            self._log_attack(origin, guesser)
        return guesser.count

    def _log_attack(self, origin: str, guesser: _Guesser) -> None:
        logged = sum(other.is_logged for other in self._guessers.values())
        if logged < self._policy.most_attacks:
            guesser.is_logged = True
            log.warning("guessing.begun", address=origin, wrong=guesser.count)

    def _forget_quiet(self) -> None:
        quiet_since_s = anyio.current_time() - self._policy.quiet_s
        quiet = [
            origin for origin, guesser in self._guessers.items() if guesser.last_s <= quiet_since_s
        ]
        for origin in quiet:
            self._forget(origin)

    def _forget(self, origin: str) -> None:
        guesser = self._guessers.pop(origin, None)
        if guesser is not None and guesser.is_logged:
            duration_s = round(guesser.last_s - guesser.began_s, 1)
            log.warning(
                "guessing.ended", address=origin, wrong=guesser.count, duration_s=duration_s
            )


def _origin(address: str | None) -> str:
    """Return the network of an address: what one client can choose its address from."""
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
