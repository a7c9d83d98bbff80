"""The Amplitude stand-in over real sockets."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import orjson
import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession
from yarl import URL

from relay.sandbox.amplitude.conditions import Poison
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.common.replies import JsonObject

KEY = "key-1"
DAY_MS = 24 * 3_600_000


class StillClock:
    """A clock that moves only on command."""

    def __init__(self) -> None:
        self.at_ms = 1_767_261_906_412

    def now_ms(self) -> int:
        """Return the set wall time."""
        return self.at_ms

    def monotonic_s(self) -> float:
        """Return the same in seconds."""
        return self.at_ms / 1000

    def elapsed_s(self) -> float:
        """Return the same in seconds."""
        return self.at_ms / 1000


@dataclass
class Bench:
    """A stand-in, a session to it, and its clock."""

    amplitude: AmplitudeStandIn
    session: ClientSession
    url: URL
    clock: StillClock

    async def post(
        self, body: object, path: str = "/2/httpapi", *, compress: bool = False
    ) -> tuple[int, JsonObject]:
        """Upload a body and return the status and the JSON response."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        if compress:
            data, headers["Content-Encoding"] = gzip.compress(data), "gzip"
        async with self.session.post(
            self.url.with_path(path), data=data, headers=headers
        ) as response:
            answer = orjson.loads(await response.read())
            assert isinstance(answer, dict)
            return response.status, answer

    async def send(self, *events: JsonObject, path: str = "/2/httpapi") -> tuple[int, JsonObject]:
        """Upload events under the known key."""
        return await self.post({"api_key": KEY, "events": events}, path)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Run a stand-in for the duration of a test."""
    clock = StillClock()
    amplitude = AmplitudeStandIn([KEY], clock=clock)
    with anyio.fail_after(10):
        async with running(amplitude.app()) as url, ClientSession() as session:
            yield Bench(amplitude, session, url, clock)


def event(number: int, **changes: object) -> JsonObject:
    """Return a good event."""
    return {
        "event_type": "[OneSignal] Push Sent",
        "user_id": f"user-{number}",
        "device_id": f"device-{number}",
        "time": 1_767_261_906_000 + number,
        "insert_id": f"insert-{number}",
        **changes,
    }


async def test_success_body_is_complete() -> None:
    """The official SDKs need every key of the 200 body."""
    async with bench() as b:
        body = orjson.dumps({"api_key": KEY, "events": [event(1), event(2)]})
        assert await b.post(body) == (
            200,
            {
                "code": 200,
                "events_ingested": 2,
                "payload_size_bytes": len(body),
                "server_upload_time": b.clock.at_ms,
            },
        )
        assert b.amplitude.ledger.account(KEY).insert_ids == ["insert-1", "insert-2"]


async def test_repeats_are_answered_200_and_held_once() -> None:
    """Deduplication is silent, and per device."""
    async with bench() as b:
        await b.send(event(1))
        assert (await b.send(event(1), event(2)))[0] == 200
        await b.send(event(1, device_id="device-other"))
        account = b.amplitude.ledger.account(KEY)
        assert account.insert_ids == ["insert-1", "insert-2", "insert-1"]
        assert (account.uploads, account.duplicates) == (3, 1)


async def test_insert_ids_are_forgotten_after_seven_days() -> None:
    """A retry later than the window is counted again."""
    async with bench() as b:
        await b.send(event(1))
        b.clock.at_ms += 7 * DAY_MS - 1
        await b.send(event(1))
        b.clock.at_ms += 1
        await b.send(event(1))
        assert b.amplitude.ledger.account(KEY).insert_ids == ["insert-1", "insert-1"]


async def test_gzip_is_accepted_and_measured_both_ways() -> None:
    """The ledger has the bytes on the wire and after decompression."""
    async with bench() as b:
        body = orjson.dumps({"api_key": KEY, "events": [event(n) for n in range(100)]})
        assert (await b.post(body, compress=True))[0] == 200
        (line,) = b.amplitude.ledger.requests
        assert (line.is_gzip, line.plain_bytes) == (True, len(body))
        assert line.wire_bytes < len(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {"code": 400, "error": "Missing request body"}),
        (b"{", {"code": 400, "error": "Invalid JSON request body"}),
        (b"[]", {"code": 400, "error": "Invalid JSON request body"}),
        (
            b'{"events":[{}]}',
            {
                "code": 400,
                "error": "Request missing required field",
                "missing_field": "api_key",
            },
        ),
        (
            b'{"api_key":"key-1"}',
            {"code": 400, "error": "Request missing required field", "missing_field": "events"},
        ),
        (b'{"api_key":"x","events":[{}]}', {"code": 400, "error": "Invalid API key: x"}),
        (b'{"api_key":"key-1","events":[1]}', {"code": 400, "error": "Invalid event JSON"}),
    ],
)
async def test_wrong_requests_get_their_exact_body(body: bytes, expected: JsonObject) -> None:
    """Request-level mistakes are answered letter for letter."""
    async with bench() as b:
        assert await b.post(body) == (400, expected)
        assert b.amplitude.ledger.total_events == 0


async def test_broken_gzip_is_broken_json() -> None:
    """A body that does not decompress is no JSON."""
    async with bench() as b:
        headers = {"Content-Encoding": "gzip"}
        for data in (b"plain", gzip.compress(b"{}" * 500)[:-9]):
            async with b.session.post(b.url / "batch", data=data, headers=headers) as response:
                assert await response.json() == {"code": 400, "error": "Invalid JSON request body"}


@pytest.mark.parametrize(("method", "path"), [("GET", "/2/httpapi"), ("POST", "/2/other")])
async def test_other_methods_and_paths_are_rejected(method: str, path: str) -> None:
    """There is nothing else at this address."""
    async with bench() as b, b.session.request(method, b.url.with_path(path)) as response:
        assert response.status == 400
        assert await response.json() == {"code": 400, "error": "Invalid request path"}


async def test_too_many_events_or_bytes_are_413() -> None:
    """Limits hold for the decompressed body, and are larger on the Batch API."""
    async with bench() as b:
        large = {"code": 413, "error": "Payload too large"}
        many = {"api_key": KEY, "events": [event(n) for n in range(2001)]}
        assert await b.post(many, "/batch") == (413, large)
        heavy = {"api_key": KEY, "events": [event(1, event_properties={"x": "y" * 1_000_000})]}
        assert await b.post(heavy, compress=True) == (413, large)
        assert (await b.post(heavy, "/batch"))[0] == 200


async def test_lowered_limits_are_413() -> None:
    """Conditions lower the limits."""
    async with bench() as b:
        b.amplitude.conditions.max_events = 1
        assert (await b.send(event(1), event(2)))[0] == 413
        b.amplitude.conditions.max_events = None
        b.amplitude.conditions.max_body_bytes = 50
        assert (await b.send(event(1)))[0] == 413


async def test_revoked_key_is_unknown() -> None:
    """A revoked key gets the response of a wrong one."""
    async with bench() as b:
        b.amplitude.conditions.bad_keys = {KEY}
        assert await b.send(event(1)) == (400, {"code": 400, "error": "Invalid API key: key-1"})


async def test_throttled_ids_are_named() -> None:
    """A 429 has ids, rates and indices, and stores nothing."""
    async with bench() as b:
        b.amplitude.conditions.throttled_devices = {"device-2": 31}
        b.amplitude.conditions.throttled_users = {"user-4": 32}
        assert await b.send(*(event(n) for n in range(5))) == (
            429,
            {
                "code": 429,
                "error": "Too many requests for some devices and users",
                "eps_threshold": 30,
                "throttled_devices": {"device-2": 31},
                "throttled_users": {"user-4": 32},
                "throttled_events": [2, 4],
            },
        )
        assert b.amplitude.ledger.total_events == 0


async def test_daily_quota_is_in_the_batch_body() -> None:
    """The Batch API's 429 has the quotas beside the rates."""
    async with bench() as b:
        b.amplitude.conditions.quota_users = {"user-1": 500_200}
        assert await b.send(event(0), event(1), path="/batch") == (
            429,
            {
                "code": 429,
                "error": "Too many requests for some devices and users",
                "eps_threshold": 1000,
                "throttled_devices": {},
                "throttled_users": {},
                "exceeded_daily_quota_users": {"user-1": 500_200},
                "exceeded_daily_quota_devices": {},
                "throttled_events": [1],
            },
        )


async def test_silenced_devices_are_a_400_with_throttled_ones_beside() -> None:
    """Body E lists what is muted and what is only held."""
    async with bench() as b:
        b.amplitude.conditions.silenced_devices = {"device-1"}
        b.amplitude.conditions.throttled_devices = {"device-2": 100}
        b.amplitude.conditions.eps_threshold = 100
        assert await b.send(*(event(n) for n in range(3))) == (
            400,
            {
                "code": 400,
                "error": "Events silenced for device_id",
                "eps_threshold": 100,
                "exceeded_daily_quota_devices": {},
                "silenced_devices": ["device-1"],
                "silenced_events": [1],
                "throttled_devices": {"device-2": 100},
                "throttled_events": [2],
            },
        )


async def test_automatic_throttle_averages_thirty_seconds() -> None:
    """Above the threshold an id is throttled until the window has moved on."""
    async with bench() as b:
        b.amplitude.conditions.throttle_above_eps = 1.0
        burst = [event(n, device_id="device-1", user_id=None) for n in range(31)]
        assert (await b.send(*burst[:30]))[0] == 200
        status, body = await b.send(burst[30])
        assert (status, body["throttled_devices"]) == (429, {"device-1": 1})
        b.clock.at_ms += 30_000
        assert (await b.send(burst[30]))[0] == 200


async def test_poison_names_first_or_all() -> None:
    """Poisoned events are named as the endpoint does, or as ordered."""
    async with bench() as b:
        poison = Poison(property_name="bad", field="time")
        b.amplitude.conditions.poisons = [poison]
        events = [event(n, event_properties={"bad": n}) for n in range(3)]
        assert (await b.send(*events))[1]["events_with_invalid_fields"] == {"time": [0]}
        _, body = await b.send(*events, path="/batch")
        assert body["events_with_invalid_fields"] == {"time": [0, 1, 2]}
        b.amplitude.conditions.poisons = [poison.model_copy(update={"indices": "all"})]
        assert (await b.send(*events))[1]["events_with_invalid_fields"] == {"time": [0, 1, 2]}


@pytest.mark.parametrize(
    ("effect", "status", "body"),
    [
        ("bare_400", 400, {"code": 400, "error": "Invalid field values on some events"}),
        ("waf_403", 403, {"code": 403, "error": "Forbidden"}),
        ("payload_413", 413, {"code": 413, "error": "Payload too large"}),
    ],
)
async def test_poison_may_refuse_the_whole_request(
    effect: str, status: int, body: JsonObject
) -> None:
    """The event's batch is refused until it is sent alone."""
    async with bench() as b:
        b.amplitude.conditions.poisons = [
            Poison.model_validate({"insert_ids": ["insert-1"], "effect": effect})
        ]
        assert await b.send(event(0), event(1)) == (status, body)
        assert (await b.send(event(0)))[0] == 200


async def test_order_per_device_is_the_order_of_arrival() -> None:
    """The ledger keeps the order of arrival."""
    async with bench() as b:
        await b.send(event(2, device_id="device-x"), event(1, device_id="device-x"))
        await b.send(event(3, device_id=None))
        assert b.amplitude.ledger.account(KEY).device_order == {
            "device-x": ["insert-2", "insert-1"],
            "u:user-3": ["insert-3"],
        }


async def test_violations_of_relay_s_promises_are_recorded() -> None:
    """Amplitude tolerates these; the ledger records them."""
    async with bench() as b:
        await b.post(
            {
                "api_key": KEY,
                "events": [event(1, ip="$remote", event_id=1)],
                "client_upload_time": "x",
            }
        )
        await b.send(event(1))
        assert b.amplitude.ledger.violation_counts == {
            "ip": 1,
            "event_id": 1,
            "client_upload_time": 1,
            "changed_retry": 1,
        }


async def test_waiters_wake_on_events() -> None:
    """Tests wait for conditions, not for time."""
    async with bench() as b, anyio.create_task_group() as tasks:
        tasks.start_soon(b.send, event(1))
        tasks.start_soon(b.send, event(2))
        await b.amplitude.ledger.wait_for_events(2)


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("403", 403, b'{"code":403,"error":"Forbidden"}'),
        ("404", 404, b'{"code":404,"error":"Not Found"}'),
        ("408", 408, b'{"code":408,"error":"Request Timeout"}'),
        ("413", 413, b'{"code":413,"error":"Payload too large"}'),
        ("429", 429, b'{"code":429,"error":"Too many requests","eps_threshold":30}'),
        ("500", 500, b'{"code":500,"error":"Internal Server Error"}'),
        ("502", 502, b"<center><h1>502 Bad Gateway</h1></center>"),
        ("503", 503, b"<center><h1>503 Service Temporarily Unavailable</h1></center>"),
        ("504", 504, b"<center><h1>504 Gateway Time-out</h1></center>"),
        ("400_bare", 400, b'{"code":400,"error":"Invalid field values on some events"}'),
        ("400_html", 400, b"<center><h1>400 Bad Request</h1></center>"),
        ("200_html", 200, b"Welcome to nginx!"),
        ("200_empty", 200, b""),
        ("200_garbage", 200, b"not json"),
        ("200_no_code", 200, b'{"events_ingested":1,"payload_size_bytes":2}'),
        ("200_code_500", 200, b'{"code":500,"error":"Internal Server Error"}'),
        ("500_code_200", 500, b'{"code":200,"events_ingested":1}'),
    ],
)
async def test_answering_faults_last_for_their_count_and_store_nothing(
    name: str, status: int, body: bytes
) -> None:
    """A fault meets its number of requests, with its own answer, and then ends."""
    async with bench() as b:
        b.amplitude.faults.add(name, count=1, retry_after=7)
        upload = {"api_key": KEY, "events": [event(1)]}
        async with b.session.post(b.url / "2" / "httpapi", json=upload) as response:
            assert response.status == status
            assert response.headers["Retry-After"] == "7"
            assert body in await response.read()
        assert b.amplitude.ledger.total_events == 0
        assert (await b.send(event(1)))[0] == 200


@pytest.mark.parametrize("name", ["stored_500", "stored_504", "stored_200_html", "stored_408"])
async def test_stored_faults_store_before_they_answer(name: str) -> None:
    """The client cannot know, and its retry is a duplicate."""
    async with bench() as b:
        b.amplitude.faults.add(name, count=1)
        upload = {"api_key": KEY, "events": [event(1)]}
        async with b.session.post(b.url / "2" / "httpapi", json=upload) as response:
            await response.read()
        await b.send(event(1))
        account = b.amplitude.ledger.account(KEY)
        assert (account.insert_ids, account.duplicates) == (["insert-1"], 1)
        assert [line.fault for line in b.amplitude.ledger.requests] == [name, None]


@pytest.mark.parametrize(("name", "held"), [("reset", 0), ("stored_reset", 1)])
async def test_reset_breaks_the_connection(name: str, held: int) -> None:
    """The client sees a broken connection, before or after the events were stored."""
    async with bench() as b:
        b.amplitude.faults.add(name, count=1)
        with pytest.raises(ClientConnectionError):
            await b.send(event(1))
        assert b.amplitude.ledger.total_events == held


async def test_cut_body_ends_early() -> None:
    """The answer stops in the middle of its body."""
    async with bench() as b:
        b.amplitude.faults.add("200_cut", count=1)
        with pytest.raises(ClientPayloadError):
            await b.send(event(1))
        assert (await b.send(event(1)))[0] == 200


async def test_hang_lasts_until_cleared() -> None:
    """A hanging request gets no answer, only an end when the fault is cleared."""
    async with bench() as b, anyio.create_task_group() as tasks:
        b.amplitude.faults.add("hang")
        broken = anyio.Event()

        async def hang() -> None:
            with pytest.raises(ClientConnectionError):
                await b.send(event(1))
            broken.set()

        tasks.start_soon(hang)
        await b.amplitude.ledger.wait_until(lambda ledger: ledger.total_requests == 1)
        assert not broken.is_set()
        b.amplitude.faults.clear()
        await broken.wait()


async def test_shutdown_does_not_wait_for_hanging_requests() -> None:
    """The stand-in shuts down at once, whatever hangs."""
    async with bench() as b, anyio.create_task_group() as tasks:
        b.amplitude.faults.add("hang")
        tasks.start_soon(_send_in_vain, b.send)
        await b.amplitude.ledger.wait_until(lambda ledger: ledger.total_requests == 1)
        tasks.cancel_scope.cancel()


async def _send_in_vain(send: Callable[[JsonObject], Awaitable[object]]) -> None:
    await send(event(1))


async def test_slow_responses_are_correct() -> None:
    """A slow response is still the right one."""
    async with bench() as b:
        b.amplitude.faults.add("slow", count=1, delay_s=0.01)
        assert (await b.send(event(1)))[0] == 200
        assert b.amplitude.ledger.requests[0].fault == "slow"


async def test_refused_door_opens_again() -> None:
    """While the listener is closed, connects fail and open connections break."""
    async with bench() as b:
        await b.send(event(1))
        b.amplitude.faults.add("refuse")
        with pytest.raises(ClientConnectionError):
            await b.send(event(2))
        async with ClientSession() as other_client:
            with pytest.raises(ClientConnectionError):
                await other_client.post(b.url / "batch", json={})
        b.amplitude.faults.clear()
        await _until_open(b)
        assert b.amplitude.ledger.account(KEY).insert_ids == ["insert-1", "insert-3"]


async def _until_open(b: Bench) -> None:
    while True:
        try:
            await b.send(event(3))
        except ClientConnectionError:
            continue
        return


async def test_faults_end_with_their_seconds_and_meet_only_their_key() -> None:
    """A fault may be limited to a time and to one project."""
    async with bench() as b:
        b.amplitude.api_keys.add("key-2")
        b.amplitude.faults.add("503", seconds=5, api_key="key-2")
        other = {"api_key": "key-2", "events": [event(1)]}
        assert (await b.send(event(1)))[0] == 200
        async with b.session.post(b.url / "batch", json=other) as response:
            assert response.status == 503
        b.clock.at_ms += 5_000
        assert (await b.post(other))[0] == 200


async def test_faults_are_met_in_order() -> None:
    """A script of faults is used up one after the other."""
    async with bench() as b:
        b.amplitude.faults.add("500", count=2)
        b.amplitude.faults.add("500_code_200", count=1)
        await b.send(event(1))
        await b.send(event(1))
        assert (await b.send(event(1)))[1]["code"] == 200
        assert b.amplitude.faults.active() == []


@pytest.mark.parametrize(
    ("name", "limits"),
    [("nonsense", {}), ("stored_503", {}), ("refuse", {"count": 1}), ("500", {"count": 0})],
)
async def test_nonsense_is_no_fault(name: str, limits: dict[str, int]) -> None:
    """An impossible fault is rejected when it is added."""
    amplitude = AmplitudeStandIn([KEY])
    with pytest.raises(ValueError, match="Fault"):
        amplitude.faults.add(name, count=limits.get("count"))
