"""A damaged outbox is brought to rest: what does not fit together goes, what is lost is counted.

Events that were acknowledged and cannot be read any more are counted as `lost`, and as part of
`discarded`, so that `accepted = pending + delivered + dead + discarded` stays true. If in doubt an
event is counted as lost although it was delivered, and never the other way round.
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
"""No upload has more events; a damaged number may say anything."""


class _Counted(NamedTuple):
    """An app's counts, and its events counted anew."""

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
        """Events that are accounted for nowhere; below zero, those that are there twice."""
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
    """Return what the second book keeps of an outbox."""
    (last_seq,) = raw.execute(_SQL["highest_seq"]).fetchone()
    return {"apps": raw.execute(_SQL["app_counters"]).fetchall(), "last_seq": last_seq}


def _is_event(row: Row) -> bool:
    return _fits(row["app"], row["key"], row["body"])


def _fits(app: Value, key: Value, body: Value) -> bool:
    """Tell whether an event's body is whole, as far as its key can tell."""
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
        f"{accepted - known.get(no, 0)} events of {app} were accepted that it does not know of"
        for no, app, _, accepted, *_ in record.get("apps", ())
        if accepted > known.get(no, 0)
    ]


def _find_imbalances(raw: sqlite3.Connection) -> list[str]:
    """Return whose counts are not what the tables hold."""
    return [
        f"the counts of {app.app} are not what it holds"
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
    if dropped or not found.is_whole("claims", "receipts", "tries") or _is_behind(counted):
        raw.execute(_SQL["assume_tried"])
    is_clear = not dropped and found.is_whole("receipts")
    least = found.unreadable_rows["events"] if is_clear else found.most_lost("events")
    least += found.unreadable_rows["dead_letters"]
    return {app.app: lost for app in counted if (lost := _restate(raw, app, least))}


def _is_behind(counted: Collection[_Counted]) -> bool:
    """Tell whether what is there differs from the counts, so that tries may be missing too."""
    return any(app.missing or app.dead != app.counted_dead for app in counted)


def _restore_apps(raw: sqlite3.Connection, apps: Collection[str], record: SidecarRecord) -> None:
    """Give every number its name and its counts back."""
    for row in record.get("apps", ()):
        try:
            raw.execute(_SQL["take_app_over"], row)
        except sqlite3.IntegrityError:
            continue  # two numbers for one name: the database's own word stands
    nameless = [no for (no,) in raw.execute(_SQL["nameless_apps"]).fetchall()]
    named = {app for _, app, *_ in raw.execute(_SQL["app_counters"])}
    left = [app for app in apps if app not in named]
    for no in nameless:
        is_clear = len(nameless) == len(left) == 1
        raw.execute(_SQL["name_app"], {"no": no, "app": left[0] if is_clear else f"unknown_{no}"})


def _count(raw: sqlite3.Connection) -> list[_Counted]:
    return [_Counted(*row) for row in raw.execute(_SQL["census"]).fetchall()]


def _restate(raw: sqlite3.Connection, app: _Counted, least: int) -> int:
    """Make an app's counts true again; return how many of its events are lost.

    More may be there than is known to be pending: they count as delivered, and go to Amplitude
    again, which knows them.

    Args:
        raw: In a transaction.
        app: The app.
        least: So many are lost at least: others that are there again may hide them.
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
