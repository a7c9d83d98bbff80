"""The admin door: who may call it, and what it answers."""

import re
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from tests.support.relays import (
    API_KEY,
    TOKEN,
    app_environment,
    event,
    relay_and_amplitude,
    running_relay,
)

ADMIN = "admin-token-of-the-test"


def offline(**changes: str) -> dict[str, str]:
    """Return the settings of an app whose Amplitude is unreachable."""
    return {**app_environment("shop", "http://127.0.0.1:9"), **changes}


async def test_with_a_token_only_its_bearer_gets_data(tmp_path: Path) -> None:
    """Health is open; everything else needs the token."""
    async with running_relay(tmp_path, offline(RELAY_ADMIN_TOKEN=ADMIN)) as relay:
        for path in ("/api/v1/status", "/metrics", "/api/v1/openapi.json", "/api/v1/nothing"):
            assert (await relay.ask("GET", relay.admin + path)).status == 401
        bearer = {"Authorization": f"Bearer {ADMIN}"}
        for path in ("/api/v1/status", "/metrics", "/api/v1/openapi.json"):
            assert (await relay.ask("GET", relay.admin + path, headers=bearer)).status == 200
        webhook = {"Authorization": f"Bearer {TOKEN}"}
        refused = await relay.ask("GET", f"{relay.admin}/api/v1/status", headers=webhook)
        assert refused.status == 401
        for path in ("/healthz", "/readyz"):
            assert (await relay.ask("GET", relay.admin + path)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8081"}, 200),
        ({"Host": "[::1]:8081"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_without_a_token_only_this_machine_gets_data(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """A browser page cannot reach it, by another name or from another origin."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.ask("GET", f"{relay.admin}/api/v1/status", headers=headers)
        assert answer.status == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_openapi_document_is_valid_and_complete(tmp_path: Path) -> None:
    """Every operation of the contract is described, and the document is valid."""
    async with running_relay(tmp_path, offline()) as relay:
        document = (await relay.api("GET", "/openapi.json")).json
        validate(document)
        assert {
            f"{method} {path}" for path, item in document["paths"].items() for method in item
        } >= {
            "get /api/v1/status",
            "get /api/v1/dead-letters",
            "post /api/v1/dead-letters/retry",
            "post /api/v1/dead-letters/discard",
            "get /api/v1/quarantine",
            "post /api/v1/quarantine/retry",
            "post /api/v1/quarantine/discard",
            "post /api/v1/apps/{app}/pause",
            "post /api/v1/apps/{app}/resume",
        }


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/dead-letters?limit=0", None, 400),
        ("GET", "/dead-letters?limit=1001", None, 400),
        ("GET", "/dead-letters?colour=red", None, 400),
        ("GET", "/dead-letters?app=nobody", None, 404),
        ("GET", "/quarantine?app=&reason=&limit=&after=", None, 200),
        ("POST", "/dead-letters/retry", {}, 400),
        ("POST", "/dead-letters/retry", {"reason": "expired"}, 400),
        ("POST", "/dead-letters/discard", {"app": "nobody"}, 404),
        ("POST", "/dead-letters/discard", {"ids": []}, 200),
        ("POST", "/quarantine/retry", {"ids": ["x"]}, 400),
        ("POST", "/quarantine/discard", None, 400),
        ("POST", "/apps/nobody/pause", None, 404),
        ("GET", "/apps/shop/pause", None, 405),
        ("GET", "/nothing", None, 404),
    ],
)
async def test_mistakes_are_answered_with_what_is_wrong(
    tmp_path: Path, method: str, path: str, body: object, status: int
) -> None:
    """400, 404 or 405 with an error message; nothing changes."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.api(method, path, body)
        assert answer.status == status
        assert status == 200 or answer.json["error"]


async def test_lists_are_read_page_by_page(tmp_path: Path) -> None:
    """`next` continues until it is null, and no item is missed or repeated."""
    async with running_relay(tmp_path, offline()) as relay:
        await relay.post([{"number": number} for number in range(7)])
        seen: list[int] = []
        following: int | None = 0
        while following is not None:
            page = (await relay.api("GET", f"/quarantine?limit=3&after={following}")).json
            seen += [item["id"] for item in page["items"]]
            following = page["next"]
        assert len(seen) == len(set(seen)) == 7
        assert sorted(seen) == seen


async def test_metrics_agree_with_the_status(tmp_path: Path) -> None:
    """The same numbers under the contract's names, without users or keys."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("404", count=1)
        await relay.post(event(1))
        await relay.until(lambda status: status["dead"] == 1)
        await relay.post([event(2), event(2), event(3, kind="message.live_activity.sent"), 1])
        status = await relay.settled()
        text = (await relay.ask("GET", f"{relay.admin}/metrics")).body.decode()
        for name in ("accepted", "delivered", "dead", "discarded", "duplicate", "filtered"):
            assert f'relay_events_{name}_total{{app="shop"}} {float(status[name])}' in text
        assert 'relay_bodies_quarantined_total{app="shop"} 1.0' in text
        assert 'relay_outbox_pending{app="shop"} 0.0' in text
        assert 'relay_uploads_total{app="shop",outcome="delivered"} 1.0' in text
        assert 'relay_app_halted{app="shop"} 0.0' in text
        assert re.search(
            r"relay_http_request_duration_seconds_count\{"
            r'route="/v1/apps/\{app\}/events",status="200"\} 2\.0',
            text,
        )
        assert "user-" not in text
        assert API_KEY not in text


async def test_the_status_has_every_field_of_the_contract(tmp_path: Path) -> None:
    """Dashboards rely on these names."""
    async with running_relay(tmp_path, offline()) as relay:
        whole = (await relay.api("GET", "/status")).json
        assert {"version", "ready", "uptime_s", "apps", "segments"} == set(whole)
        assert set(whole["apps"]["shop"]) == {
            "accepted", "pending", "in_flight", "delivered", "dead", "discarded", "duplicate",
            "filtered", "quarantined", "lost", "oldest_pending_age_s", "delivery", "last_error",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/dead-letters?after={2**63}", None),
        ("POST", "/dead-letters/retry", {"ids": [2**63]}),
        ("POST", "/quarantine/discard", {"ids": [-1]}),
    ],
)
async def test_numbers_no_row_can_have_are_mistakes(
    tmp_path: Path, method: str, path: str, body: object
) -> None:
    """They get a 400 with JSON."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.api(method, path, body)
        assert answer.status == 400
        assert answer.json["error"]


async def test_an_origin_that_is_no_url_is_foreign(tmp_path: Path) -> None:
    """Whatever a client puts there."""
    async with running_relay(tmp_path, offline()) as relay:
        answer = await relay.ask(
            "GET", f"{relay.admin}/api/v1/status", headers={"Origin": "http://["}
        )
        assert answer.status == 403
