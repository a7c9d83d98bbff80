"""The cohorts webhook, as Amplitude meets it."""

import gzip
import sqlite3
import zlib
from pathlib import Path

import anyio
import orjson
import pytest

from tests.support.relays import (
    COHORT,
    TOKEN,
    app_environment,
    cohort_message,
    running_relay,
)

NOTHING = {"added": 0, "removed": 0, "duplicate": False, "held": False}
LIMIT = 4 * 1024 * 1024


def applied(**named: object) -> dict[str, object]:
    """Return the response to an applied message."""
    return {**NOTHING, **named}


def offline(**changes: str) -> dict[str, str]:
    """Return the settings of an app whose Amplitude is unreachable."""
    return {**app_environment("shop", "http://127.0.0.1:9"), **changes}


def members(folder: Path) -> list[str]:
    """Return the members of all segments as a client of the view sees them."""
    with sqlite3.connect(f"file:{folder / 'segments.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT external_id FROM segment_members ORDER BY external_id")
        found = [str(external_id) for (external_id,) in rows]
    database.close()
    return found


async def test_an_answered_message_is_in_the_views(tmp_path: Path) -> None:
    """The response follows the commit; only users OneSignal knows become members."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.know("anna", "ben")
        body = cohort_message(1, "anna", "ben", "stranger")
        answer = await relay.post(body, webhook="cohorts")
        assert (answer.status, answer.json) == (200, applied(added=2))
        assert members(tmp_path) == ["anna", "ben"]
        left = await relay.post(cohort_message(2, "anna", entering=False), webhook="cohorts")
        assert left.json == applied(removed=1)
        assert members(tmp_path) == ["ben"]


async def test_a_repeated_message_is_answered_without_effect(tmp_path: Path) -> None:
    """Amplitude repeats a message whose response came too late."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.know("anna")
        await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        later = cohort_message(2, "anna", entering=False, computed_at=1_692_300_000)
        await relay.post(later, webhook="cohorts")
        again = await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        assert (again.status, again.json) == (200, applied(duplicate=True))
        assert members(tmp_path) == []


async def test_leavers_past_the_guard_are_held_and_reported(tmp_path: Path) -> None:
    """A mistake elsewhere empties no segment: an operator decides first."""
    everybody = [f"user-{number}" for number in range(10)]
    changes = {"RELAY_COHORTS__GUARD_MIN_MEMBERS": "10"}
    async with running_relay(tmp_path, offline(**changes)) as relay:
        await relay.know(*everybody)
        await relay.post(cohort_message(1, *everybody), webhook="cohorts")
        leaving = cohort_message(2, *everybody[:5], entering=False)
        answer = await relay.post(leaving, webhook="cohorts")
        assert (answer.status, answer.json) == (200, applied(held=True))
        assert members(tmp_path) == everybody


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b'{"hello":1}', {}, "missing_field"),
        (b"{not json", {}, "broken_json"),
        (b"[]", {}, "not_an_object"),
        (b"", {}, "broken_json"),
        (b"plain", {"Content_Encoding": "gzip"}, "broken_gzip"),
        (gzip.compress(b"{}")[:-9], {"Content_Encoding": "gzip"}, "broken_gzip"),
    ],
)
async def test_an_invalid_message_is_422_and_quarantined(
    tmp_path: Path, body: bytes, headers: dict[str, str], reason: str
) -> None:
    """The response gives the reason; the body is quarantined unchanged."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.post(body, webhook="cohorts", **headers)
        assert answer.status == 422
        (item,) = (await relay.api("GET", "/quarantine")).json["items"]
        assert (item["hook"], item["reason"], item["app"]) == ("cohorts", reason, "shop")
        assert item["detail"] == answer.json["error"]
        assert item["encoding"] == "base64" or item["body"].encode() == body
        assert (await relay.status())["quarantined"] == 1
        assert (await relay.api("POST", "/quarantine/retry", {"app": "shop"})).json == {
            "affected": 0
        }


async def test_gzip_is_read_and_other_encodings_are_not(tmp_path: Path) -> None:
    """As at the events webhook."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.know("anna")
        packed = gzip.compress(orjson.dumps(cohort_message(1, "anna")))
        answer = await relay.post(packed, webhook="cohorts", Content_Encoding="gzip")
        assert answer.json == applied(added=1)
        other = await relay.post(zlib.compress(b"{}"), webhook="cohorts", Content_Encoding="br")
        assert (other.status, "gzip" in other.json["error"]) == (415, True)


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_past_the_limit_is_413(tmp_path: Path, *, compressed: bool) -> None:
    """4 MiB after decompression, and nothing is stored."""
    async with running_relay(tmp_path, offline()) as relay:
        body = b" " * (LIMIT + 1)
        if compressed:
            answer = await relay.post(
                gzip.compress(body), webhook="cohorts", Content_Encoding="gzip"
            )
        else:
            answer = await relay.post(body, webhook="cohorts")
        assert answer.status == 413
        assert (await relay.status())["quarantined"] == 0


@pytest.mark.parametrize(
    ("app", "token"), [("shop", "wrong"), ("shop", ""), ("nobody", TOKEN), ("nobody", "")]
)
async def test_a_wrong_token_and_an_unknown_app_look_the_same(
    tmp_path: Path, app: str, token: str
) -> None:
    """401 as at the events webhook, and nothing is stored."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.post(cohort_message(1), app=app, token=token, webhook="cohorts")
        assert (answer.status, answer.json) == (401, {"error": "wrong or missing token"})
        assert (await relay.status())["quarantined"] == 0


async def test_the_body_is_not_read_before_the_token(tmp_path: Path) -> None:
    """A wrong token is rejected although the body never arrives."""
    async with running_relay(tmp_path, offline()) as relay:
        host, port = relay.public.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(
                b"POST /v1/apps/shop/cohorts HTTP/1.1\r\nHost: relay\r\n"
                b"Authorization: Bearer wrong\r\nContent-Length: 1000000\r\n\r\n"
            )
            with anyio.fail_after(3):
                assert b" 401 " in await stream.receive()


async def test_other_methods_and_webhooks_are_rejected_in_json(tmp_path: Path) -> None:
    """405 and 404, also for escaped paths."""
    async with running_relay(tmp_path, offline()) as relay:
        for method, path, status in (
            ("GET", "/v1/apps/shop/cohorts", 405),
            ("GET", "/v1/apps/sh%6Fp/cohorts?a=b", 405),
            ("POST", "/v1/apps/shop/segments", 404),
            ("POST", "/v1/apps/shop/cohorts/more", 404),
        ):
            answer = await relay.ask(method, relay.public + path)
            assert (answer.status, set(answer.json)) == (status, {"error"})


async def test_a_full_disk_answers_503(tmp_path: Path) -> None:
    """Amplitude retries later."""
    changes = offline(RELAY_OUTBOX__MIN_FREE_BYTES=str(1 << 60))
    async with running_relay(tmp_path, changes) as relay:
        answer = await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_responses_are_counted_under_the_webhook_s_name(tmp_path: Path) -> None:
    """Metrics tell the two webhooks apart; the path is never a label."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.post(cohort_message(1), webhook="cohorts")
        await relay.post(cohort_message(1), webhook="cohorts", app="nobody")
        text = (await relay.ask("GET", f"{relay.admin}/metrics")).body.decode()
        for status in (200, 401):
            label = f'route="/v1/apps/{{app}}/cohorts",status="{status}"'
            assert f"relay_http_request_duration_seconds_count{{{label}}} 1.0" in text
        assert "nobody" not in text
        assert COHORT not in text
