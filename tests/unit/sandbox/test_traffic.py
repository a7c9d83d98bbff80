"""The seeded traffic."""

from collections import Counter
from random import Random
from uuid import UUID

import pytest

from relay.events.catalog import KINDS, SEED_KINDS
from relay.sandbox.onesignal.traffic import CHAINS, RawEvent, Traffic, TrafficOptions

APP_ID = "11111111-2222-4333-8444-555555555555"


def take(count: int, *, seed: int = 1, kinds: frozenset[str] = KINDS) -> list[RawEvent]:
    """Return `count` events."""
    return Traffic(TrafficOptions(APP_ID, kinds), Random(seed)).take(count)


def test_chains_have_every_kind() -> None:
    """The event chains cover all kinds."""
    kinds = {f"message.{channel}.{step}" for channel, steps, _ in CHAINS for step in steps}
    assert kinds == KINDS


def test_a_short_run_shows_every_kind() -> None:
    """Every chain occurs once before random ones."""
    assert {event["event"]["kind"] for event in take(60)} == KINDS


def test_the_selection_is_kept() -> None:
    """Deselected kinds are left out."""
    wanted = frozenset(SEED_KINDS)
    assert {event["event"]["kind"] for event in take(500, kinds=wanted)} == wanted


def test_unknown_kinds_are_rejected() -> None:
    """A source that could never send reports it."""
    with pytest.raises(ValueError, match="none of these"):
        take(1, kinds=frozenset({"message.pigeon.released"}))


def test_the_seed_decides() -> None:
    """The same seed gives the same events, another one others."""
    assert take(100) == take(100)
    assert take(100) != take(100, seed=2)


def test_ids_are_distinct_version_4_uuids() -> None:
    """Event ids look like OneSignal's."""
    ids = [str(event["event"]["id"]) for event in take(2_000)]
    assert len(set(ids)) == 2_000
    assert {UUID(text).version for text in ids} == {4}


def test_users_are_of_all_sorts() -> None:
    """Anonymous, short, numeric and Unicode ids, and users with many devices."""
    events = take(3_000)
    external_ids = {str(event["event"]["external_id"]) for event in events}
    assert {"", "42", "1000003", "zoë-東京", "undefined"} <= external_ids
    devices = {(e["event"]["onesignal_id"], e["event"]["subscription_id"]) for e in events}
    assert max(Counter(user for user, _ in devices).values()) > 2


def test_messages_have_the_fields_of_their_channel() -> None:
    """Push has objects by language, e-mail a subject, others less."""
    for event in take(1_000):
        channel = str(event["event"]["kind"]).split(".")[1]
        title, contents = event["message"].get("title"), event["message"].get("contents")
        assert isinstance(title, dict) == (channel == "push")
        assert isinstance(title, str) == (channel == "email")
        assert isinstance(contents, dict) == (channel in ("push", "sms"))


def test_only_failures_have_a_reason_and_only_clicks_a_target() -> None:
    """`event.data` is filled where OneSignal fills it."""
    for event in take(1_000):
        kind, data = str(event["event"]["kind"]), event["event"]["data"]
        assert isinstance(data, dict)
        assert ("failure_reason" in data) == (
            kind in ("message.push.failed", "message.email.failed")
        )
        assert ("target_name" in data) == (kind == "message.iam.clicked")


def test_both_times_of_an_event_agree() -> None:
    """`timestamp` is `datetime` in whole seconds."""
    event = take(1)[0]["event"]
    assert str(event["datetime"]).startswith("2026-01-01T10:05:0")
    assert str(event["datetime"]).endswith("Z")
    assert isinstance(event["timestamp"], int)
