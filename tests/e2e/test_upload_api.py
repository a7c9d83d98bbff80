"""Amplitude's own upload API at relay's public door, as SDKs and other clients meet it."""

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from relay.clock import SystemClock
from relay.observability.logs import configure_logging
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from tests.support.relays import (
    API_KEY,
    DEADLINE_S,
    Relay,
    Response,
    app_environment,
    event,
    insert_id,
    relay_and_amplitude,
    running_relay,
)

BOTH = ("/2/httpapi", "/batch")
LIMITS = {"/2/httpapi": 1_000_000, "/batch": 20_000_000}
TIME_MS = 1_767_261_906_412


def sdk_event(number: int, **over: object) -> dict[str, Any]:
    """Return an event as an SDK makes it; `over` replaces its keys."""
    return {
        "user_id": f"user-{number}",
        "device_id": f"device-{number}",
        "event_type": "Opened",
        "time": TIME_MS + number,
        "insert_id": f"insert-{number}",
        "event_properties": {"screen": "home"},
        "library": "amplitude-ts/2.0.0",
        **over,
    }


def request(*events: object, api_key: str = API_KEY, **rest: object) -> dict[str, object]:
    """Return an upload request body."""
    return {"api_key": api_key, "events": list(events), **rest}


async def upload(relay: Relay, body: object, path: str = "/2/httpapi", **headers: str) -> Response:
    """Post to the upload API; `bytes` are sent unchanged."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await relay.ask("POST", f"{relay.public}{path}", data=data, headers=named)


def held(amplitude: AmplitudeStandIn, api_key: str = API_KEY) -> list[dict[str, Any]]:
    """Return the events that Amplitude holds."""
    return amplitude.ledger.account(api_key).events


def padded(size_bytes: int) -> bytes:
    """Return an upload of exactly this many bytes."""
    bare = json.dumps(request(sdk_event(1, pad=""))).encode()
    return bare.replace(b'"pad": ""', b'"pad": "%b"' % (b"x" * (size_bytes - len(bare))))


def offline(**changes: str) -> dict[str, str]:
    """Return the settings of an app whose Amplitude is unreachable."""
    return {**app_environment("shop", "http://127.0.0.1:9"), **changes}


@pytest.mark.parametrize("path", BOTH)
async def test_events_reach_amplitude_unchanged(tmp_path: Path, path: str) -> None:
    """Once each, in order, and the response is Amplitude's."""
    events = [sdk_event(1, device_id="d-one"), sdk_event(2, device_id="d-one", ip="203.0.113.9")]
    body = orjson.dumps(request(*events, client_upload_time="2026-01-01T10:05:06.412Z"))
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        answer = await upload(relay, body, path)
        assert answer.status == 200
        taken = answer.json
        assert abs(taken.pop("server_upload_time") - SystemClock().now_ms()) < 60_000
        assert taken == {"code": 200, "events_ingested": 2, "payload_size_bytes": len(body)}
        status = await relay.settled()
        assert (status["accepted"], status["delivered"]) == (2, 2)
        assert held(amplitude) == events
        counted = (await relay.ask("GET", f"{relay.admin}/metrics")).body.decode()
        assert f'_count{{route="{path}",status="200"}} 1' in counted


async def test_a_repeated_request_is_recognised(tmp_path: Path) -> None:
    """By insert ids, given or made; the response is the first one's, and it is counted."""
    events = [sdk_event(1), sdk_event(2, insert_id=None), sdk_event(2, insert_id=None)]
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        for _ in range(3):
            answer = await upload(relay, request(*events))
            assert (answer.status, answer.json["events_ingested"]) == (200, 3)
        status = await relay.settled()
        assert (status["accepted"], status["duplicate"], status["delivered"]) == (3, 6, 3)
        assert len(held(amplitude)) == 3


async def test_a_bare_event_is_the_same_at_every_attempt(tmp_path: Path) -> None:
    """It gets a time and an insert id on receipt, so retries neither double nor move it."""
    bare = {"user_id": "user-1", "event_type": "Opened", "ip": "$remote"}
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("stored_500", count=2)
        received_at = (await upload(relay, request(bare))).json["server_upload_time"]
        await relay.settled()
        (stored,) = held(amplitude)
        assert (len(amplitude.ledger.requests), len(stored["insert_id"])) == (3, 32)
        del bare["ip"]
        assert stored == {**bare, "time": received_at, "insert_id": stored["insert_id"]}
        assert not amplitude.ledger.violations


async def test_the_key_says_whose_events_they_are(tmp_path: Path) -> None:
    """Two apps, two projects; neither sees the other's events."""
    async with relay_and_amplitude(tmp_path, apps=("shop", "blog")) as (relay, amplitude):
        await upload(relay, request(sdk_event(1)))
        await upload(relay, request(sdk_event(1), api_key=f"{API_KEY}-blog"), "/batch")
        for app, key in (("shop", API_KEY), ("blog", f"{API_KEY}-blog")):
            assert (await relay.settled(app))["delivered"] == 1
            assert held(amplitude, key) == [sdk_event(1)]


@pytest.mark.parametrize("path", BOTH)
async def test_another_key_is_rejected_as_amplitude_rejects_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    """400 and not 401, with the key repeated, as SDKs expect; the log omits it."""
    async with running_relay(tmp_path, offline()) as relay:
        configure_logging("debug", "json")
        for key in ("some-other-key", API_KEY[:-1], f"{API_KEY}0", API_KEY.upper()):
            answer = await upload(relay, request(sdk_event(1), api_key=key), path)
            refusal = {"code": 400, "error": f"Invalid API key: {key}"}
            assert (answer.status, answer.json) == (400, refusal)
        endless = await upload(relay, request(sdk_event(1), api_key="k" * 9000), path)
        assert endless.json["error"] == f"Invalid API key: {'k' * 100}"
        assert (await relay.status())["accepted"] == 0
    printed = capsys.readouterr().out
    assert "some-other-key" not in printed
    assert "user-1" not in printed


async def test_one_bad_event_rejects_the_request(tmp_path: Path) -> None:
    """Nothing of the request is stored, and the bad event is named."""
    events = [sdk_event(1), sdk_event(2, time="today"), sdk_event(3, user_id="bob")]
    async with running_relay(tmp_path, offline()) as relay:
        answer = await upload(relay, request(*events))
        assert (answer.status, answer.json) == (
            400,
            {
                "code": 400,
                "error": "Invalid field values on some events",
                "events_with_invalid_fields": {"time": [1]},
            },
        )
        status = await relay.status()
        assert (status["accepted"], status["quarantined"]) == (0, 0)
        allowed = request(sdk_event(3, user_id="bob"), options={"min_id_length": 1})
        assert (await upload(relay, allowed)).status == 200


@pytest.mark.parametrize("path", BOTH)
async def test_the_limits_are_amplitudes(tmp_path: Path, path: str) -> None:
    """Of bytes, compressed or not, and of events; 413 makes an SDK split its request."""
    too_large = {"code": 413, "error": "Payload too large"}
    limit = LIMITS[path]
    async with running_relay(tmp_path, offline()) as relay:
        for body in (padded(limit + 1), request(*[sdk_event(1)] * 2001)):
            answer = await upload(relay, body, path)
            assert (answer.status, answer.json) == (413, too_large)
        bomb = gzip.compress(padded(limit + 1), 1)
        answer = await upload(relay, bomb, path, Content_Encoding="gzip")
        assert (answer.status, answer.json) == (413, too_large)
        assert (await relay.status())["accepted"] == 0
        assert (await upload(relay, padded(limit), path)).status == 200
        events = [sdk_event(number) for number in range(2000)]
        assert (await upload(relay, request(*events), path)).status == 200


@pytest.mark.parametrize("path", BOTH)
async def test_a_compressed_body_is_accepted(tmp_path: Path, path: str) -> None:
    """Browser SDKs compress; the reported size is that of the content."""
    body = json.dumps(request(*(sdk_event(number) for number in range(20)))).encode()
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        answer = await upload(relay, gzip.compress(body), path, Content_Encoding="gzip")
        assert (answer.status, answer.json["payload_size_bytes"]) == (200, len(body))
        await relay.settled()
        assert len(held(amplitude)) == 20


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
async def test_a_body_that_cannot_be_decompressed_is_rejected(
    tmp_path: Path, encoding: str
) -> None:
    """It counts as invalid JSON."""
    async with running_relay(tmp_path, offline()) as relay:
        body = json.dumps(request(sdk_event(1))).encode()
        answer = await upload(relay, body, Content_Encoding=encoding)
        refusal = {"code": 400, "error": "Invalid JSON request body"}
        assert (answer.status, answer.json) == (400, refusal)


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "application/octet-stream"])
async def test_any_content_type_is_accepted(tmp_path: Path, content_type: str) -> None:
    """A beacon of a closing page is text/plain."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await upload(relay, request(sdk_event(1)), Content_Type=content_type)
        assert answer.status == 200


@pytest.mark.parametrize("size", [100_000, 900_000])
async def test_a_long_body_with_a_wrong_key_is_not_parsed(tmp_path: Path, size: int) -> None:
    """The key decides first: broken JSON after a wrong one goes unnoticed."""
    events = b'"events":[%b' % (b"[" * size)
    async with running_relay(tmp_path, offline()) as relay:
        answer = await upload(relay, b'{"api_key":"a-strangers",%b' % events, "/batch")
        refusal = {"code": 400, "error": "Invalid API key: a-strangers"}
        assert (answer.status, answer.json) == (400, refusal)
        nameless = await upload(relay, b"{%b" % events, "/batch")
        assert nameless.json["missing_field"] == "api_key"
        broken = await upload(relay, b'{"api_key":"%b",%b' % (API_KEY.encode(), events), "/batch")
        assert broken.json["error"] == "Invalid JSON request body"


async def test_guessed_keys_are_delayed_and_the_right_one_is_not(tmp_path: Path) -> None:
    """Also from the same address: behind a proxy all clients share one."""
    guesses = 13
    async with running_relay(tmp_path, offline()) as relay:
        refused: list[int] = []

        async def guess(number: int) -> None:
            answer = await upload(relay, request(sdk_event(1), api_key=f"guess-{number}"))
            refused.append(answer.status)

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                for number in range(guesses):
                    tasks.start_soon(guess, number)
                while len(refused) < 2:
                    await anyio.sleep(0.01)
                assert (await upload(relay, request(sdk_event(1)))).status == 200
                assert len(refused) < guesses
                tasks.cancel_scope.cancel()


async def test_a_full_outbox_answers_503(tmp_path: Path) -> None:
    """503 in Amplitude's shape, as SDKs read the code in the body. Known events get 200."""
    async with running_relay(tmp_path, offline(RELAY_OUTBOX__MAX_EVENTS="2")) as relay:
        assert (await upload(relay, request(sdk_event(1), sdk_event(2)))).status == 200
        for path in BOTH:
            answer = await upload(relay, request(sdk_event(1), sdk_event(3)), path)
            assert (answer.status, answer.json["code"]) == (503, 503)
            assert answer.headers["Retry-After"] == "5"
        assert (await upload(relay, request(sdk_event(2)))).status == 200
        assert (await relay.status())["accepted"] == 2


async def test_a_full_disk_answers_503(tmp_path: Path) -> None:
    """Before the body is read."""
    full = offline(RELAY_OUTBOX__MIN_FREE_BYTES=str(1 << 60))
    async with running_relay(tmp_path, full) as relay:
        answer = await upload(relay, b"not even JSON")
        assert (answer.status, answer.json) == (503, {"code": 503, "error": "disk_full"})
        assert answer.headers["Retry-After"] == "5"


async def test_bodies_in_memory_are_bounded_together(tmp_path: Path) -> None:
    """The sender may be unauthenticated: past 64 MiB in memory the next one gets 503."""
    limit = LIMITS["/batch"]
    head = b"POST /batch HTTP/1.1\r\nHost: relay\r\nContent-Length: %d\r\n\r\n" % limit
    async with running_relay(tmp_path, offline()) as relay:
        refusals: list[bytes] = []
        refused = anyio.Event()
        host, port = relay.public.removeprefix("http://").split(":")

        async def send_almost_all() -> None:
            async with await anyio.connect_tcp(host, int(port)) as stream:
                with suppress(anyio.BrokenResourceError):  # what a rejected one has not sent yet
                    await stream.send(head + b"{" * (limit - 1))
                refusals.append(await stream.receive())
                refused.set()

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(send_almost_all)
                await refused.wait()
                tasks.cancel_scope.cancel()
            assert b" 503 " in refusals[0]
            assert b'{"code":503,"error":"too much is being sent at once"}' in refusals[0]
            while (await upload(relay, padded(limit), "/batch")).status != 200:
                await anyio.sleep(0.01)  # the door notices one by one that the others are gone


async def test_scripts_of_any_site_may_send(tmp_path: Path) -> None:
    """A browser sends a preflight and shows a script only responses that allow it."""
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    async with running_relay(tmp_path, offline()) as relay:
        for path in BOTH:
            allowed = await relay.ask("OPTIONS", f"{relay.public}{path}", headers=asked)
            assert (allowed.status, allowed.body) == (204, b"")
            assert allowed.headers["Access-Control-Allow-Origin"] == "*"
            assert allowed.headers["Access-Control-Allow-Methods"] == "POST"
            assert allowed.headers["Access-Control-Allow-Headers"] == "*"
            for body in (request(sdk_event(1)), b"", request(sdk_event(1), api_key="k")):
                answer = await upload(relay, body, path)
                assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_another_method_is_rejected(tmp_path: Path) -> None:
    """The response says which method is."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.ask("GET", f"{relay.public}/2/httpapi")
        assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS,POST")


async def test_insert_ids_of_onesignal_and_of_sdks_never_collide(tmp_path: Path) -> None:
    """An SDK may use any insert id, even that of a OneSignal event."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        await relay.post(event(1))
        await upload(relay, request(sdk_event(1, insert_id=insert_id(1))))
        await upload(relay, request(sdk_event(2, insert_id=insert_id(1))))
        await relay.post(event(1))
        status = await relay.settled()
        assert (status["accepted"], status["duplicate"]) == (3, 1)
        assert len(held(amplitude)) == 3


async def test_events_of_an_erased_user_are_filtered(tmp_path: Path) -> None:
    """By whatever way, and even if the id alone is too short for the batch API."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        for id_ in ("user-1", "bob"):
            assert (await relay.api("DELETE", f"/users/shop/{id_}")).status == 204
        events = [sdk_event(1), sdk_event(2), sdk_event(3, user_id="bob")]
        for path in BOTH:
            answer = await upload(relay, request(*events[: 2 if path == BOTH[0] else 3]), path)
            assert answer.status == 200
        status = await relay.settled()
        assert (status["accepted"], status["filtered"], status["duplicate"]) == (1, 3, 1)
        assert held(amplitude) == [sdk_event(2)]


async def test_uploads_do_not_change_the_directory(tmp_path: Path) -> None:
    """The directory holds OneSignal's users, and these are Amplitude's."""
    async with running_relay(tmp_path, offline()) as relay:
        await upload(relay, request(sdk_event(1)))
        assert (await relay.api("GET", "/users/shop/user-1")).status == 404
