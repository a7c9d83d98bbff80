"""The events webhook, as OneSignal and other clients meet it."""

import gzip
import json
import zlib
from pathlib import Path

import anyio
import orjson
import pytest

from relay.observability.logs import configure_logging
from tests.support.relays import (
    API_KEY,
    APP_ID,
    TOKEN,
    app_environment,
    event,
    relay_and_amplitude,
    running_relay,
)

ZEROS = {"accepted": 0, "duplicate": 0, "filtered": 0, "quarantined": 0}
LIMIT = 4 * 1024 * 1024


def counts(**named: int) -> dict[str, int]:
    """Return the webhook's response."""
    return {**ZEROS, **named}


def offline(**changes: str) -> dict[str, str]:
    """Return the settings of an app whose Amplitude is unreachable."""
    return {**app_environment("shop", "http://127.0.0.1:9"), **changes}


async def test_every_token_of_the_app_is_accepted_in_either_header(tmp_path: Path) -> None:
    """Tokens can be rotated: several are valid, as bearer or in relay's own header."""
    changes = {"RELAY_APPS__SHOP__WEBHOOK_TOKENS": "first-token, second-token"}
    async with running_relay(tmp_path, offline(**changes)) as relay:
        assert (await relay.post(event(1), token="first-token")).json == counts(accepted=1)
        other = await relay.post(event(2), token="", X_Relay_Token="second-token")
        assert other.json == counts(accepted=1)


@pytest.mark.parametrize(
    ("app", "token", "headers"),
    [
        ("shop", "wrong", {}),
        ("shop", "", {}),
        ("shop", "", {"X_Relay_Token": "wrong"}),
        ("shop", "", {"Authorization": f"Basic {TOKEN}"}),
        ("nobody", TOKEN, {}),
        ("nobody", "", {}),
    ],
)
async def test_a_wrong_token_and_an_unknown_app_look_the_same(
    tmp_path: Path, app: str, token: str, headers: dict[str, str]
) -> None:
    """401, without saying which of the two it was; nothing is stored."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.post(event(1), app=app, token=token, **headers)
        assert (answer.status, answer.json) == (401, {"error": "wrong or missing token"})
        assert (await relay.status())["accepted"] == 0


async def test_the_body_is_not_read_before_the_token(tmp_path: Path) -> None:
    """A wrong token is rejected although the body never arrives."""
    async with running_relay(tmp_path, offline()) as relay:
        host, port = relay.public.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(
                b"POST /v1/apps/shop/events HTTP/1.1\r\nHost: relay\r\n"
                b"Authorization: Bearer wrong\r\nContent-Length: 1000000\r\n\r\n"
            )
            with anyio.fail_after(3):
                assert b" 401 " in await stream.receive()


async def test_an_array_is_counted_element_by_element(tmp_path: Path) -> None:
    """The counts add up to the number of elements, whatever they are."""
    async with running_relay(tmp_path, offline()) as relay:
        body = [
            event(1),
            event(2),
            event(1),
            event(3, kind="message.live_activity.sent"),
            event(4, kind="message.push.dreamt"),
            event(5, app_id="99999999-2222-4333-8444-555555555555"),
            event(6, external_id="", subscription_id=""),
            "text",
            None,
            [event(7)],
        ]
        answer = await relay.post(body)
        assert answer.json == counts(accepted=2, duplicate=1, filtered=1, quarantined=6)
        items = (await relay.api("GET", "/quarantine")).json["items"]
        assert [item["reason"] for item in items] == [
            "unknown_kind",
            "foreign_app",
            "no_identity",
            "not_an_object",
            "not_an_object",
            "not_an_object",
        ]
        assert json.loads(items[0]["body"]) == event(4, kind="message.push.dreamt")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"[]", {}),
        (b"null", {"quarantined": 1}),
        (b"42", {"quarantined": 1}),
        (b"", {"quarantined": 1}),
        (b"{not json", {"quarantined": 1}),
        (b"\xff\xfe\x00", {"quarantined": 1}),
        (b"[" * 100_000, {"quarantined": 1}),
    ],
)
async def test_an_invalid_event_is_quarantined_raw_and_answered_200(
    tmp_path: Path, body: bytes, named: dict[str, int]
) -> None:
    """An error response would make OneSignal switch the stream off."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.post(body)
        assert (answer.status, answer.json) == (200, counts(**named))
        items = (await relay.api("GET", "/quarantine")).json["items"]
        assert len(items) == named.get("quarantined", 0)
        if items and items[0]["encoding"] == "utf-8":
            assert items[0]["body"].encode() == body


async def test_the_deepest_elements_of_an_array_are_quarantined(tmp_path: Path) -> None:
    """Nesting deeper than Python's encoder supports is no reason for an error response."""
    deep = b"[" * 1_010 + b"]" * 1_010
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.post(b"[%b,%b]" % (deep, orjson.dumps(event(1))))
        assert (answer.status, answer.json) == (200, counts(accepted=1, quarantined=1))
        (item,) = (await relay.api("GET", "/quarantine")).json["items"]
        assert item["body"].encode() == deep


async def test_gzip_is_read_and_broken_gzip_is_quarantined(tmp_path: Path) -> None:
    """Compressed bodies are events too; undecodable ones are quarantined raw."""
    async with running_relay(tmp_path, offline()) as relay:
        packed = gzip.compress(orjson.dumps([event(1), event(2)]))
        two = packed + gzip.compress(b" ")
        for body, answer in (
            (packed, counts(accepted=2)),
            (two, counts(duplicate=2)),
            (packed[:-9], counts(quarantined=1)),
            (b"plain", counts(quarantined=1)),
            (b"", counts(quarantined=1)),
        ):
            answered = await relay.post(body, Content_Encoding="gzip")
            assert (answered.status, answered.json) == (200, answer)
        first = (await relay.api("GET", "/quarantine")).json["items"][0]
        assert first["encoding"] == "base64"


async def test_an_unknown_encoding_is_415(tmp_path: Path) -> None:
    """The sender can fix this, so it gets an error."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.post(zlib.compress(b"{}"), Content_Encoding="br")
        assert answer.status == 415
        assert "gzip" in answer.json["error"]


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_past_the_limit_is_413(tmp_path: Path, *, compressed: bool) -> None:
    """4 MiB after decompression; a bomb is not decompressed to its end."""
    async with running_relay(tmp_path, offline()) as relay:
        body = b" " * (LIMIT + 1)
        if compressed:
            answer = await relay.post(gzip.compress(body * 20), Content_Encoding="gzip")
        else:
            answer = await relay.post(body)
        assert answer.status == 413
        assert (await relay.post(b" " * (LIMIT - 2) + b"[]")).json == ZEROS


async def test_other_methods_and_paths_are_rejected_in_json(tmp_path: Path) -> None:
    """405 and 404, and the admin API is not behind this door."""
    async with running_relay(tmp_path, offline()) as relay:
        for method, path, status in (
            ("GET", "/v1/apps/shop/events", 405),
            ("POST", "/healthz", 405),
            ("GET", "/", 404),
            ("GET", "/api/v1/status", 404),
            ("GET", "/metrics", 404),
            ("POST", "/v1/apps/shop/events/more", 404),
        ):
            answer = await relay.ask(method, relay.public + path)
            assert answer.status == status
            assert answer.json["error"]


async def test_a_path_may_be_escaped_or_carry_a_query(tmp_path: Path) -> None:
    """A URL template may add parameters; the webhook is the same."""
    async with running_relay(tmp_path, offline()) as relay:
        for number, path in enumerate(("/v1/apps/sh%6Fp/events", "/v1/apps/shop/events?a=b")):
            answer = await relay.ask(
                "POST",
                relay.public + path,
                data=orjson.dumps(event(number)),
                headers={"X-Relay-Token": TOKEN},
            )
            assert answer.json == counts(accepted=1)


async def test_a_full_outbox_answers_503_for_the_whole_array_and_drains(
    tmp_path: Path,
) -> None:
    """Nothing of a rejected array is stored; deliveries free space."""
    changes = {"RELAY_OUTBOX__MAX_EVENTS": "10"}
    async with relay_and_amplitude(tmp_path, changes) as (relay, _):
        await relay.api("POST", "/apps/shop/pause")
        assert (await relay.post([event(n) for n in range(8)])).status == 200
        full = await relay.post([event(n) for n in range(20, 24)])
        assert (full.status, full.headers["Retry-After"]) == (503, "5")
        assert (await relay.status())["accepted"] == 8
        await relay.post([event(n) for n in range(30, 32)])
        ready = await relay.ask("GET", f"{relay.public}/readyz")
        assert (ready.status, ready.json["checks"]["intake"]) == (503, "outbox_full")
        await relay.api("POST", "/apps/shop/resume")
        await relay.settled()
        assert (await relay.post(event(99))).status == 200


async def test_a_full_disk_answers_503_and_says_so(tmp_path: Path) -> None:
    """Below the configured free space nothing is accepted, and `/readyz` says so."""
    changes = offline(RELAY_OUTBOX__MIN_FREE_BYTES=str(1 << 60))
    async with running_relay(tmp_path, changes) as relay:
        assert (await relay.post(event(1))).status == 503
        assert (await relay.post(event(1), token="wrong")).status == 401
        ready = await relay.ask("GET", f"{relay.admin}/readyz")
        assert (ready.status, ready.json["status"]) == (503, "unavailable")
        alive = await relay.ask("GET", f"{relay.public}/healthz")
        assert (alive.status, alive.json["status"]) == (200, "ok")


async def test_the_same_event_in_every_shape_is_one_event(tmp_path: Path) -> None:
    """OneSignal's templates and relay's own give the same event."""
    flat = {
        "event.kind": "message.push.clicked",
        "event.id": "00000000-0000-4000-8000-000000000001",
        "event.app_id": APP_ID,
        "event.subscription_id": "s-1",
    }
    grouped = {"Event Data": flat, "Message Data": {"message.id": "m"}}
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        assert (await relay.post(event(1))).json == counts(accepted=1)
        assert (await relay.post(flat)).json == counts(duplicate=1)
        assert (await relay.post(grouped)).json == counts(duplicate=1)
        await relay.settled()
        assert len(amplitude.ledger.account(API_KEY).insert_ids) == 1


async def test_anonymous_events_follow_the_policy(tmp_path: Path) -> None:
    """`drop` filters events without a user; `device` sends them with only the device."""
    changes = {"RELAY_APPS__GAME__ANONYMOUS": "drop"}
    async with relay_and_amplitude(tmp_path, changes, apps=("shop", "game")) as (relay, sand):
        anonymous = event(1, external_id="")
        assert (await relay.post(anonymous, app="game")).json == counts(filtered=1)
        assert (await relay.post(anonymous)).json == counts(accepted=1)
        await relay.settled()
        (sent,) = sand.ledger.account(API_KEY).events
        assert "user_id" not in sent
        assert sent["device_id"] == "a3f1c8d2-77b0-4f0b-8a51-000000000001"


async def test_quarantined_bodies_are_read_again_when_asked(tmp_path: Path) -> None:
    """A later relay or another setting may understand them."""
    foreign = "99999999-2222-4333-8444-555555555555"
    async with running_relay(tmp_path, offline()) as relay:
        await relay.post([event(1, app_id=foreign), event(2, app_id=foreign)])
        await relay.post(b"{broken")
        again = await relay.api("POST", "/quarantine/retry", {"app": "shop"})
        assert again.json == {"affected": 0}
    changed = offline(RELAY_APPS__SHOP__ONESIGNAL_APP_ID=foreign)
    async with running_relay(tmp_path, changed) as relay:
        dry = await relay.api("POST", "/quarantine/retry", {"app": "shop", "dry_run": True})
        assert dry.json == {"affected": 2}
        again = await relay.api("POST", "/quarantine/retry", {"app": "shop"})
        assert again.json == {"affected": 2}
        status = await relay.status()
        assert (status["accepted"], status["quarantined"]) == (2, 3)
        gone = await relay.api("POST", "/quarantine/discard", {"app": "shop"})
        assert gone.json == {"affected": 1}
        assert (await relay.api("GET", "/quarantine")).json == {"items": [], "next": None}


async def test_an_outbox_at_its_limit_still_recognises_what_it_has(tmp_path: Path) -> None:
    """Only new events need space: repetitions and invalid bodies get 200."""
    changes = {"RELAY_OUTBOX__MAX_EVENTS": "3"}
    async with relay_and_amplitude(tmp_path, changes) as (relay, _):
        await relay.api("POST", "/apps/shop/pause")
        first = [event(n) for n in range(3)]
        assert (await relay.post(first)).json == counts(accepted=3)
        assert (await relay.post(first)).json == counts(duplicate=3)
        assert (await relay.post([])).json == ZEROS
        assert (await relay.post(b"{")).json == counts(quarantined=1)
        assert (await relay.post([*first, event(9)])).status == 503


async def test_a_mass_of_tiny_gzip_members_is_rejected(tmp_path: Path) -> None:
    """Each member would copy all that follows; no real sender does this."""
    async with running_relay(tmp_path, offline()) as relay:
        bomb = gzip.compress(b"", mtime=0) * 100_000
        with anyio.fail_after(5):
            answer = await relay.post(bomb, Content_Encoding="gzip")
        assert answer.json == counts(quarantined=1)


async def test_a_body_that_breaks_off_costs_nothing(tmp_path: Path) -> None:
    """No event is stored, and other clients notice nothing."""
    async with running_relay(tmp_path, offline()) as relay:
        host, port = relay.public.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(
                b"POST /v1/apps/shop/events HTTP/1.1\r\nHost: relay\r\n"
                b"X-Relay-Token: %b\r\nContent-Length: 1000\r\n\r\n{" % TOKEN.encode()
            )
        assert (await relay.post(event(1))).json == counts(accepted=1)


async def test_malformed_http_is_neither_echoed_nor_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The response is JSON and quotes nothing; tokens and payloads stay out of the log."""
    async with running_relay(tmp_path, offline()) as relay:
        configure_logging("debug", "json")
        host, port = relay.public.removeprefix("http://").split(":")
        for head in (
            b"POST / HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer private\x01\r\n\r\n",
            b'{"event":{"external_id":"private"}} HTTP/1.1\r\n\r\n',
        ):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                await stream.send(head)
                with anyio.fail_after(3):
                    answer = await stream.receive()
            assert b" 400 " in answer
            assert b"private" not in answer
            assert b'{"error":' in answer
    assert "private" not in capsys.readouterr().out


async def test_the_sender_is_invited_to_send_a_large_body(tmp_path: Path) -> None:
    """`Expect: 100-continue` is answered, but only after the token check."""
    async with running_relay(tmp_path, offline()) as relay:
        host, port = relay.public.removeprefix("http://").split(":")
        for token, first in ((TOKEN, b" 100 "), ("wrong", b" 401 ")):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                await stream.send(
                    b"POST /v1/apps/shop/events HTTP/1.1\r\nHost: relay\r\n"
                    b"X-Relay-Token: %b\r\nContent-Length: 2\r\n"
                    b"Expect: 100-continue\r\n\r\n" % token.encode()
                )
                with anyio.fail_after(3):
                    assert first in await stream.receive()


async def test_two_concurrent_retries_of_a_quarantine_accept_each_body_once(tmp_path: Path) -> None:
    """Each body leaves by one of the two; none counts as a duplicate."""
    foreign = "99999999-2222-4333-8444-555555555555"
    async with running_relay(tmp_path, offline()) as relay:
        await relay.post([event(n, app_id=foreign) for n in range(40)])
    changed = offline(RELAY_APPS__SHOP__ONESIGNAL_APP_ID=foreign)
    async with running_relay(tmp_path, changed) as relay:
        affected = []

        async def read_again() -> None:
            answer = await relay.api("POST", "/quarantine/retry", {"app": "shop"})
            affected.append(answer.json["affected"])

        async with anyio.create_task_group() as group:
            group.start_soon(read_again)
            group.start_soon(read_again)
        status = await relay.status()
        assert sum(affected) == status["accepted"] == 40
        assert status["duplicate"] == 0
