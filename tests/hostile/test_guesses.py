"""Wrong tokens: each answer comes later than the last, logged once, at no one else's cost."""

import io
from ipaddress import IPv6Address
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import orjson
import pytest

from relay.http.auth import FailedAuthThrottle, ThrottlePolicy
from relay.observability.logs import configure_logging
from tests.support.relays import Relay, Response, app_environment, event, running_relay

ADMIN = "admin-token-of-the-test"

GUESSES = 30

SWIFT = ThrottlePolicy(free=2, first_s=0.05, longest_s=0.2, quiet_s=0.4, attack=4)

DEADLINE_S = 10.0


@pytest.fixture
def log() -> io.StringIO:
    """Capture the log."""
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    return stream


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """Return the log lines about guessing."""
    every = [orjson.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in every if line["event"].startswith("guessing.")]


def test_each_wrong_secret_waits_longer_up_to_a_limit() -> None:
    """The first few, mistyped or outdated, are answered at once."""
    waits = [ThrottlePolicy().wait_s(count) for count in (1, 5, 6, 7, 8, 11, 10_000)]
    assert waits == [0, 0, 0.1, 0.2, 0.4, 3.0, 3.0]


async def _guess(relay: Relay, door: str, number: int) -> Response:
    token = f"guess-{number}"
    if door == "admin":
        bearer = {"Authorization": f"Bearer {token}"}
        return await relay.ask("GET", f"{relay.admin}/api/v1/status", headers=bearer)
    return await relay.post(event(1), token=token, app=door)


async def _right(relay: Relay, door: str) -> Response:
    if door == "admin":
        bearer = {"Authorization": f"Bearer {ADMIN}"}
        return await relay.ask("GET", f"{relay.admin}/api/v1/status", headers=bearer)
    return await relay.post(event(1))


@pytest.mark.parametrize("door", ["shop", "unknown", "admin"])
async def test_guesses_are_delayed_and_the_right_token_is_not(
    tmp_path: Path, log: io.StringIO, door: str
) -> None:
    """Both share one address, as behind a reverse proxy."""
    environment = {
        **app_environment("shop", "http://127.0.0.1:9"),
        "RELAY_ADMIN_TOKEN": ADMIN,
    }
    answers: list[Response] = []
    async with running_relay(tmp_path, environment) as relay:

        async def guess(number: int) -> None:
            answers.append(await _guess(relay, door, number))

        async with anyio.create_task_group() as guessers:
            for number in range(GUESSES):
                guessers.start_soon(guess, number)
            with anyio.fail_after(DEADLINE_S):
                while not lines(log):
                    await anyio.sleep(0.01)
            assert len(answers) < GUESSES
            began_s = monotonic()
            assert (await _right(relay, door)).status == 200
            waited_s = monotonic() - began_s
            assert len(answers) < GUESSES, "the right one came while wrong ones waited"
            guessers.cancel_scope.cancel()
        assert waited_s < 1
        assert {answer.status for answer in answers} == {401}
    begun = lines(log)
    assert [(line["event"], line["address"], line["wrong"]) for line in begun] == [
        ("guessing.begun", "127.0.0.1", 20)
    ]
    assert "guess-1" not in log.getvalue()


async def test_a_stop_does_not_wait_for_guesses(tmp_path: Path) -> None:
    """Delayed answers are sent at once on shutdown."""
    environment = app_environment("shop", "http://127.0.0.1:9")
    async with anyio.create_task_group() as guessers:
        async with running_relay(tmp_path, environment) as relay:
            for number in range(GUESSES):
                guessers.start_soon(_guess, relay, "shop", number)
            await anyio.sleep(0.3)
            began_s = monotonic()
        assert monotonic() - began_s < 2.5


async def test_an_attack_is_logged_at_its_start_and_at_its_end(log: io.StringIO) -> None:
    """The number of guesses is known only at the end."""
    attempts = FailedAuthThrottle(SWIFT)
    async with anyio.create_task_group() as group:
        group.start_soon(attempts.run)
        for _ in range(6):
            await attempts.slow("203.0.113.9")
        await attempts.slow("203.0.113.10")
        with anyio.fail_after(DEADLINE_S):
            while len(lines(log)) < 2:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    told = [(line["event"], line["address"], line["wrong"]) for line in lines(log)]
    assert told == [
        ("guessing.begun", "203.0.113.9", 4),
        ("guessing.ended", "203.0.113.9", 6),
    ]


async def test_an_address_is_forgiven_after_a_quiet_period() -> None:
    """One mistyped token a day is never delayed."""
    attempts = FailedAuthThrottle(SWIFT)
    for _ in range(4):
        await attempts.slow("203.0.113.9")
    await anyio.sleep(SWIFT.quiet_s * 1.5)
    assert await _waited_s(attempts, "203.0.113.9") < SWIFT.first_s


async def test_an_ipv6_network_counts_as_one_address() -> None:
    """A subscriber can choose any address of a /64."""
    attempts = FailedAuthThrottle(SWIFT)
    network = int(IPv6Address("2001:db8:1:2::"))
    for number in range(6):
        await attempts.slow(str(IPv6Address(network + number)))
    assert await _waited_s(attempts, "2001:db8:1:2:ffff::1") > SWIFT.first_s
    assert await _waited_s(attempts, "2001:db8:1:3::1") < SWIFT.first_s


async def test_an_ipv4_mapped_address_counts_as_the_ipv4_address() -> None:
    """A dual-stack socket shows it as an IPv4-mapped IPv6 address."""
    attempts = FailedAuthThrottle(SWIFT)
    for address in ("203.0.113.9", "::ffff:203.0.113.9") * 2:
        await attempts.slow(address)
    assert await _waited_s(attempts, "203.0.113.9") > SWIFT.first_s
    assert await _waited_s(attempts, "::ffff:203.0.113.10") < SWIFT.first_s


async def test_delayed_answers_are_bounded() -> None:
    """Past the limit, the request delayed longest is answered."""
    attempts = FailedAuthThrottle(ThrottlePolicy(free=0, first_s=60, longest_s=60, most_waiting=3))
    answered: list[int] = []

    async def guess(number: int) -> None:
        await attempts.slow("203.0.113.9")
        answered.append(number)

    async with anyio.create_task_group() as guessers:
        for number in range(5):
            guessers.start_soon(guess, number)
            await anyio.lowlevel.checkpoint()
        with anyio.fail_after(DEADLINE_S):
            while len(answered) < 2:
                await anyio.lowlevel.checkpoint()
        assert answered == [0, 1]
        attempts.stop()
    assert answered == [0, 1, 2, 3, 4]


async def test_remembered_and_logged_addresses_are_bounded(log: io.StringIO) -> None:
    """A million addresses fill neither the memory nor the log."""
    few = ThrottlePolicy(free=9, attack=1, most_addresses=10, most_attacks=2, quiet_s=60)
    attempts = FailedAuthThrottle(few)
    for number in range(200):
        await attempts.slow(f"203.0.113.{number}")
    begun = [line for line in lines(log) if line["event"] == "guessing.begun"]
    assert 2 <= len(begun) <= 200 / 10 * 2 + 2


async def _waited_s(attempts: FailedAuthThrottle, address: str) -> float:
    began_s = monotonic()
    await attempts.slow(address)
    return monotonic() - began_s
