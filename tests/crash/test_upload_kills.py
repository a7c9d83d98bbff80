"""The daemon is killed under an SDK's uploads; the sender retries until it is answered 200."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import aiohttp
import anyio
import orjson
import pytest

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.crash.accounting import contradictions
from tests.support.command_line import API_KEY
from tests.support.daemons import POLL_S, fast_relay, open_doors, running_daemon
from tests.support.options import option

pytestmark = pytest.mark.slow

SENDERS = 6
EVENTS = 7
MAX_ACKNOWLEDGED = 40
SETTLE_S = 60.0
FIRST_MS = 1_767_261_906_412


class Sender:
    """Uploads small requests one after another, each until it is answered 200.

    Attributes:
        acknowledged: Requests answered 200.
        is_last: Whether to send no further request.
        ended: Set once the last request is answered.
    """

    def __init__(self, number: int, url: str, http: aiohttp.ClientSession) -> None:
        self._number = number
        self._path = ("/2/httpapi", "/batch")[number % 2]
        self._url = url
        self._http = http
        self.acknowledged = 0
        self.is_last = False
        self.ended = anyio.Event()

    async def run(self) -> None:
        """Send until `is_last` is set and the last request is answered."""
        while not self.is_last:
            body = self._request()
            while not await self._is_acknowledged(body):
                await anyio.sleep(POLL_S)
            self.acknowledged += 1
        self.ended.set()

    async def _is_acknowledged(self, body: bytes) -> bool:
        try:
            async with self._http.post(f"{self._url}{self._path}", data=body) as answer:
                content = await answer.read()
        except aiohttp.ClientError:
            return False
        assert answer.status in {200, 503}, content
        return answer.status == 200

    def _request(self) -> bytes:
        """Return the next request; half of its events have no insert id."""
        events = [
            {
                "device_id": f"device-{self._number}",
                "event_type": "Opened",
                "time": FIRST_MS + self.acknowledged,
                "event_properties": {"request": self.acknowledged, "place": place},
                "insert_id": f"insert-{self.acknowledged}-{place}" if place % 2 else None,
            }
            for place in range(EVENTS)
        ]
        return orjson.dumps({"api_key": API_KEY, "events": events})


async def test_every_upload_survives_kill_after_kill(tmp_path: Path) -> None:
    """Every event answered 200 is at Amplitude once and in order, whatever was retried."""
    rng = Random(option("CRASH_SEED", 20261124))
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as ingest, aiohttp.ClientSession() as http:
        relay = fast_relay(tmp_path, str(ingest).rstrip("/"))
        senders = [Sender(number, relay.public, http) for number in range(SENDERS)]
        async with anyio.create_task_group() as tasks:
            for sender in senders:
                tasks.start_soon(sender.run)
            for _ in range(option("CRASH_UPLOAD_KILLS", 4)):
                async with running_daemon(relay) as daemon:
                    await daemon.until("relay.ready")
                    await _until_acknowledged(
                        senders, _acknowledged(senders) + rng.randint(1, MAX_ACKNOWLEDGED)
                    )
                    daemon.kill()
                    await daemon.ended()
            async with running_daemon(relay) as daemon, open_doors(relay) as doors:
                await daemon.until("relay.ready")
                for sender in senders:
                    sender.is_last = True
                with anyio.fail_after(SETTLE_S):
                    for sender in senders:
                        await sender.ended.wait()
                counts = await doors.drained()
    assert contradictions(counts) == []
    assert counts.accepted == counts.delivered == _acknowledged(senders) * EVENTS
    account = amplitude.ledger.account(API_KEY)
    for number, sender in enumerate(senders):
        assert [
            event["event_properties"]
            for event in account.events
            if event["device_id"] == f"device-{number}"
        ] == [
            {"request": request, "place": place}
            for request in range(sender.acknowledged)
            for place in range(EVENTS)
        ]


def _acknowledged(senders: Iterable[Sender]) -> int:
    return sum(sender.acknowledged for sender in senders)


async def _until_acknowledged(senders: Sequence[Sender], enough: int) -> None:
    with anyio.fail_after(SETTLE_S):
        while _acknowledged(senders) < enough:
            await anyio.sleep(POLL_S)
