"""Makes the saved rows of a damaged segment table consistent: whole segments or none.

The ids of a list can be downloaded again, so a segment whose list is incomplete disappears until
then; it is never shown in part or empty. The forgotten users and the number of the last change that
followers have read cannot be fetched again, so they come from the sidecar.
"""

import sqlite3
from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from importlib.resources import files
from typing import Final

import orjson
import structlog

from relay.database.counters_sidecar import SidecarRecord
from relay.database.queries import load_queries
from relay.database.recovery.check import RecoverySpec
from relay.database.recovery.salvage import Salvage, raise_sequence
from relay.segments.erasure import HASH_BYTES
from relay.segments.sql import MIGRATIONS

log = structlog.get_logger(__name__)

_SQL: Final = load_queries(files("relay.segments").joinpath("recovery.sql"))

REASON: Final = "the database was damaged"

_FORGETTING: Final = (
    "forget_users",
    "forget_subscriptions",
    "forget_listed",
    "forget_run_changes",
    "forget_marks",
    "forget_changes",
)


class SidecarReader:
    """Reads the sidecar's record of a segment table.

    It runs in every commit, so the forgotten users are read only when their number has changed.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what was read: its transaction was undone."""
        self._count = -1
        self._forgotten = orjson.Fragment(b"[]")

    def __call__(self, raw: sqlite3.Connection) -> SidecarRecord:
        """Return the record as of this transaction."""
        (count,) = raw.execute(_SQL["count_forgotten"]).fetchone()
        if count != self._count:
            people = [(app, hash_.hex(), at) for app, hash_, at in raw.execute(_SQL["forgotten"])]
            self._count, self._forgotten = count, orjson.Fragment(orjson.dumps(people))
        return {
            "sequences": dict(raw.execute(_SQL["sequences"]).fetchall()),
            "apps": raw.execute(_SQL["apps"]).fetchall(),
            "salts": _salts(raw),
            "forgotten": self._forgotten,
            "lists": raw.execute(_SQL["count_lists"]).fetchone()[0],
        }


def _find_faults(raw: sqlite3.Connection, record: SidecarRecord, *, whole: bool) -> list[str]:
    faults = []
    sequences = dict(raw.execute(_SQL["sequences"]).fetchall())
    if any(seq > sequences.get(name, 0) for name, seq in record.get("sequences", {}).items()):
        faults.append("it lacks changes or runs that were committed")
    people = {(app, hash_.hex()) for app, hash_, _ in raw.execute(_SQL["forgotten"])}
    if any((app, hash_) not in people for app, hash_, _ in record.get("forgotten", ())):
        faults.append("it lacks users who are forgotten")
    if record.get("salts") and record["salts"] != _salts(raw):
        faults.append("its salt has changed")
    if whole and (torn := raw.execute(_SQL["torn_lists"]).fetchall()):
        faults.append(f"{len(torn)} of its lists are incomplete")
    return faults


def _salts(raw: sqlite3.Connection) -> list[str]:
    return [salt.hex() for (salt,) in raw.execute(_SQL["salt"])]


def _make_consistent(
    raw: sqlite3.Connection, found: Salvage, record: SidecarRecord
) -> Mapping[str, int]:
    for name, seq in record.get("sequences", {}).items():
        raise_sequence(raw, name, seq)
    for no, app in record.get("apps", ()):
        raw.execute(_SQL["add_app"], {"no": no, "app": app})
    for query in (
        "restore_restricted",
        "drop_stray_cohorts",
        "drop_stray_runs",
        "drop_stray_sightings",
    ):
        raw.execute(_SQL[query])
    lost = _withdraw_torn_lists(raw, found, record)
    _restore_forgotten(raw, record)
    lost |= _complete_directory(raw, found)
    for query in ("recount_figures", "discard_unused_lists", "keep_used_lists"):
        raw.execute(_SQL[query])
    return {word: number for word, number in lost.items() if number}


def _withdraw_torn_lists(
    raw: sqlite3.Connection, found: Salvage, record: SidecarRecord
) -> dict[str, int]:
    """Take incomplete lists out of force, and what is staged beside them."""
    torn = raw.execute(_SQL["torn_lists"]).fetchall()
    for no, app, cohort_id in torn:
        log.error("segment.list_lost", app=app, cohort_id=cohort_id)
        raw.execute(_SQL["drop_list"], {"cohort": no})
    (whole,) = raw.execute(_SQL["count_lists"]).fetchone()
    lists = max(len(torn), record.get("lists", 0) - whole)
    failed = 0
    # A run's rows depend on each other across these tables; nothing tells which of them are lost.
    if not found.is_whole("listed", "run_changes", "marks", "runs", "cohorts"):
        failed = raw.execute(_SQL["fail_open_runs"], {"reason": REASON}).rowcount
        raw.execute(_SQL["drop_history"])
    return {
        "lists": lists,
        "runs under way": failed,
        "changes told": found.unreadable_rows["changes"],
    }


def _complete_directory(raw: sqlite3.Connection, found: Salvage) -> dict[str, int]:
    """Make users and subscriptions match; the next refresh adds what is missing."""
    if found.is_whole("users", "subscriptions"):
        return {}
    restored = raw.execute(_SQL["restore_users"]).rowcount
    for query in ("recount_subscriptions", "ask_for_sync", "next_revisions"):
        raw.execute(_SQL[query])
    users = found.most_lost("users") - restored
    return {
        "users at most": max(0, users),
        "subscriptions at most": found.most_lost("subscriptions"),
    }


def _restore_forgotten(raw: sqlite3.Connection, record: SidecarRecord) -> None:
    """Restore the forgotten users; remove their rows, which older pages may have brought back."""
    for salt in record.get("salts", ())[:1]:
        raw.execute(_SQL["drop_salt"])
        raw.execute(_SQL["set_salt"], {"value": bytes.fromhex(salt)})
    for app, hash_, at in record.get("forgotten", ()):
        raw.execute(_SQL["add_forgotten"], {"app": app, "hash": bytes.fromhex(hash_), "at": at})
    people = {(app, hash_) for app, hash_, _ in raw.execute(_SQL["forgotten"])}
    salt = raw.execute(_SQL["salt"]).fetchone()
    if not people or salt is None:
        return
    raw.create_function("is_forgotten", 2, partial(_is_forgotten, salt[0], people))
    for query in _FORGETTING:
        raw.execute(_SQL[query])


def _is_forgotten(
    salt: bytes, people: set[tuple[int, bytes]], app: int | None, external_id: str
) -> bool:
    if app is None:
        return False
    return (app, blake2b(external_id.encode(), digest_size=HASH_BYTES, key=salt).digest()) in people


RECOVERY_SPEC: Final = RecoverySpec(
    migrations=MIGRATIONS, checks={}, find_faults=_find_faults, make_consistent=_make_consistent
)
