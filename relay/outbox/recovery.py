"""Makes the saved rows of a damaged outbox consistent, and counts the events that are lost.

Events that were acknowledged and cannot be read any more are counted as `lost` and as part of
`discarded`, so that `accepted = pending + delivered + dead + discarded` stays true. In doubt an
event is counted as lost although it was delivered, never the other way round.
"""

import sqlite3
from collections.abc import Collection, Mapping
from functools import partial
from importlib.resources import files
from typing import Final, NamedTuple

import orjson

from relay.database.counters_sidecar import SidecarRecord
from relay.database.queries import load_queries
from relay.database.recovery.check import RecoverySpec
from relay.database.recovery.page_reader import Value
from relay.database.recovery.salvage import Row, Salvage, raise_sequence
from relay.outbox.dedup import dedup_keys
from relay.outbox.sql import MIGRATIONS

_SQL: Final = load_queries(files("relay.outbox").joinpath("recovery.sql"))

_NUMBERED: Final = "dead_letters"
"""The table whose sequence gives all events their numbers."""

MOST_IN_A_SPAN: Final = 100_000
"""No upload has more events; a damaged number may be any."""


class _Counted(NamedTuple):
    """An app's counters, and its events as counted in the tables."""

    no: int
    app: str
    accepted: int
    delivered: int
    discarded: int
    pending: int
    dead: int
    counted_dead: int

    @property
    def missing(self) -> int:
        """Accepted events that are nowhere; below zero, events that are there twice."""
        known = self.delivered + self.discarded + self.pending + self.dead
        return self.accepted - known


def outbox_recovery_spec(apps: Collection[str]) -> RecoverySpec:
    """Return what recovery needs to know of an outbox.

    Args:
        apps: Names of the configured apps.
    """
    return RecoverySpec(
        migrations=MIGRATIONS,
        checks={"events": _is_event, "dead_letters": _is_event},
        find_faults=_find_faults,
        make_consistent=partial(_make_consistent, apps),
    )


def read_record(raw: sqlite3.Connection) -> SidecarRecord:
    """Return the sidecar's record of an outbox."""
    (last_seq,) = raw.execute(_SQL["highest_seq"]).fetchone()
    return {"apps": raw.execute(_SQL["app_counters"]).fetchall(), "last_seq": last_seq}


def _is_event(row: Row) -> bool:
    return _fits(row["app"], row["key"], row["body"])


def _fits(app: Value, key: Value, body: Value) -> bool:
    """Tell whether an event's body is intact: its key is derived from its content."""
    if not isinstance(app, int) or not isinstance(body, bytes):
        return False
    try:
        return key in dedup_keys(app, orjson.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _find_faults(raw: sqlite3.Connection, record: SidecarRecord, *, whole: bool) -> list[str]:
    if raw.execute(_SQL["count_marks"]).fetchone() != (1,):
        return ["its marks are missing"]
    if raw.execute(_SQL["senseless_spans"], {"most": MOST_IN_A_SPAN}).fetchone()[0]:
        return ["its claims or receipts make no sense"]
    if whole:
        raw.create_function("fits", 3, _fits, deterministic=True)
        (senseless,) = raw.execute(_SQL["senseless_events"]).fetchone()
        if senseless:
            return [f"{senseless} of its events make no sense"]
    known = {no: accepted for no, _, _, accepted, *_ in raw.execute(_SQL["app_counters"])}
    return (_find_imbalances(raw) if whole else []) + [
        f"it lacks {accepted - known.get(no, 0)} events of {app} that were accepted"
        for no, app, _, accepted, *_ in record.get("apps", ())
        if accepted > known.get(no, 0)
    ]


def _find_imbalances(raw: sqlite3.Connection) -> list[str]:
    """Return the apps whose counters differ from the tables."""
    return [
        f"the counters of {app.app} do not match its events"
        for app in _count(raw)
        if app.missing or app.dead != app.counted_dead
    ]


def _make_consistent(
    apps: Collection[str], raw: sqlite3.Connection, found: Salvage, record: SidecarRecord
) -> Mapping[str, int]:
    raw.execute(_SQL["restore_marks"])
    _restore_apps(raw, apps, record)
    (last_seq,) = raw.execute(_SQL["highest_seq"]).fetchone()
    last_seq = max(last_seq, record.get("last_seq", 0))
    raise_sequence(raw, _NUMBERED, last_seq)
    dropped = 0
    for query in ("drop_senseless_receipts", "drop_senseless_claims"):
        dropped += raw.execute(_SQL[query], {"most": MOST_IN_A_SPAN}).rowcount
    for query in (
        "drop_buried_twice",
        "drop_repeated",
        "drop_stray_tries",
        "remember_saved_days",
        "drop_senseless_messages",
    ):
        raw.execute(_SQL[query])
    counted = _count(raw)
    # An upload may have succeeded although the row that says so is lost. An event that counts as
    # tried is sent again under the rules that keep Amplitude from counting it twice.
    if dropped or not found.is_whole("claims", "receipts", "tries") or _is_behind(counted):
        raw.execute(_SQL["assume_tried"])
    # Without all receipts, lost pages of events may have held delivered ones, too.
    is_clear = not dropped and found.is_whole("receipts")
    least = found.unreadable_rows["events"] if is_clear else found.most_lost("events")
    least += found.unreadable_rows["dead_letters"]
    return {app.app: lost for app in counted if (lost := _restate(raw, app, least))}


def _is_behind(counted: Collection[_Counted]) -> bool:
    """Tell whether events or counters are missing, so that tries may be missing, too."""
    return any(app.missing or app.dead != app.counted_dead for app in counted)


def _restore_apps(raw: sqlite3.Connection, apps: Collection[str], record: SidecarRecord) -> None:
    """Restore the names and counters of apps, from the sidecar where the database lost them."""
    for row in record.get("apps", ()):
        try:
            raw.execute(_SQL["take_app_over"], row)
        except sqlite3.IntegrityError:
            continue  # two numbers for one name: the database is right
    nameless = [no for (no,) in raw.execute(_SQL["nameless_apps"]).fetchall()]
    named = {app for _, app, *_ in raw.execute(_SQL["app_counters"])}
    left = [app for app in apps if app not in named]
    for no in nameless:
        # A name is only given back where no other app can be meant.
        is_clear = len(nameless) == len(left) == 1
        raw.execute(_SQL["name_app"], {"no": no, "app": left[0] if is_clear else f"unknown_{no}"})


def _count(raw: sqlite3.Connection) -> list[_Counted]:
    return [_Counted(*row) for row in raw.execute(_SQL["census"]).fetchall()]


def _restate(raw: sqlite3.Connection, app: _Counted, least: int) -> int:
    """Correct an app's counters; return how many of its events are lost.

    Delivered events may be pending again, because an older version of their page was saved. They
    are sent to Amplitude again, which recognises them, and no longer count as delivered.

    Args:
        raw: In a transaction.
        app: The app.
        least: Events that are lost at least; the balance may hide them behind others that came
            back.
    """
    lost = max(app.missing, min(least, app.accepted - app.discarded - app.pending - app.dead), 0)
    again = min(app.delivered, lost - app.missing)
    unknown = lost - app.missing - again
    counts = {
        "no": app.no,
        "accepted": app.accepted + unknown,
        "delivered": app.delivered - again,
        "dead": app.dead,
        "discarded": app.discarded + lost,
        "lost": lost,
    }
    raw.execute(_SQL["restate"], counts)
    return lost
