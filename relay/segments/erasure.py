"""Forgotten users: removed from the segment table, and kept out of it.

Of a forgotten id only a salted hash is kept, to recognise it when it comes again: in an event,
a cohort, an export. Ids cannot be read out of the hashes, only guessed.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from hashlib import blake2b
from secrets import token_bytes

import orjson

from relay.database.database import Database, Row
from relay.segments.cohort_row import Figures, load_cohort
from relay.segments.runs import Outcome, RunSource, RunState, begin_run, finish_run
from relay.segments.segment_update import move_figures
from relay.segments.sql import SQL

HASH_BYTES = 16
SALT_BYTES = 16


class ForgottenUsers:
    """The forgotten users, in memory, so that every event and every id can be checked."""

    def __init__(self, salt: bytes, hashes: Iterable[tuple[int, bytes]]) -> None:
        self._salt = salt
        self._hashes = set(hashes)

    @classmethod
    async def load(cls, database: Database) -> "ForgottenUsers":
        """Load them, making the salt at the first start."""
        salt = await database.write(_read_salt)
        rows = await database.fetch(SQL["forgotten"], {})
        return cls(salt, ((app, digest) for app, digest in rows))

    def __contains__(self, user: tuple[int, str]) -> bool:
        """Return whether a user, given as app number and id, is forgotten."""
        app, external_id = user
        return bool(self._hashes) and (app, self.digest(external_id)) in self._hashes

    def without(self, app: int, external_ids: list[str]) -> list[str]:
        """Return the ids that are not forgotten."""
        if not self._hashes:
            return external_ids
        return [id_ for id_ in external_ids if (app, self.digest(id_)) not in self._hashes]

    def without_json(self, app: int, external_ids: str) -> str:
        """Return a JSON array of ids without those that are forgotten."""
        if not self._hashes:
            return external_ids
        return orjson.dumps(self.without(app, orjson.loads(external_ids))).decode()

    def without_rows(self, app: int, rows: str) -> str:
        """Return a JSON array of rows without those whose first value is a forgotten id."""
        if not self._hashes:
            return rows
        kept = [row for row in orjson.loads(rows) if (app, row[0]) not in self]
        return orjson.dumps(kept).decode()

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._hashes)

    def digest(self, external_id: str) -> bytes:
        """Return the salted hash of an id."""
        return blake2b(external_id.encode(), digest_size=HASH_BYTES, key=self._salt).digest()

    def add(self, app: int, external_id: str) -> None:
        """Add a user; the caller has stored it."""
        self._hashes.add((app, self.digest(external_id)))


class Erasure:
    """Removes users from the segment table for good."""

    def __init__(self, database: Database, forgotten: ForgottenUsers) -> None:
        self._database = database
        self._forgotten = forgotten

    async def keep_out(self, app: int, external_id: str, now_ms: int) -> None:
        """Keep a user out from now on; called before `remove`, or rows could slip in behind it."""
        row = {"app": app, "hash": self._forgotten.digest(external_id), "at": now_ms}
        await self._database.execute(SQL["add_forgotten"], row)
        self._forgotten.add(app, external_id)

    async def remove(self, app: int, external_id: str, now_ms: int) -> None:
        """Remove a user from directory, lists, runs and history.

        One last change, `left`, is logged in each of the user's segments, so that followers can
        drop the user too; retention removes it after some days.
        """
        user = {"app": app, "external_id": external_id}
        # This scan takes long; on the reader it blocks no write. The few changes logged meanwhile
        # are found in the transaction.
        logged = await self._database.fetch(SQL["changes_of_user"], {**user, "after": 0})
        await self._database.write(partial(_remove, app, external_id, logged, now_ms))


def _read_salt(raw: sqlite3.Connection) -> bytes:
    row = raw.execute(SQL["salt"]).fetchone()
    if row:
        return bytes(row[0])
    salt = token_bytes(SALT_BYTES)
    raw.execute(SQL["add_salt"], {"value": salt})
    return salt


def _remove(
    app: int, external_id: str, logged: Sequence[Row], now_ms: int, raw: sqlite3.Connection
) -> None:
    user = {"app": app, "external_id": external_id}
    newest = max((seq for seq, _ in logged), default=0)
    logged = [*logged, *raw.execute(SQL["changes_of_user"], {**user, "after": newest})]
    seqs = orjson.dumps([seq for seq, _ in logged]).decode()
    raw.execute(SQL["erase_changes"], {"seqs": seqs})
    segments = {cohort for _, cohort in logged}
    for no, *known in raw.execute(SQL["lists_of_user"], user).fetchall():
        if _leave(raw, no, known):
            segments.add(no)
    for no in sorted(segments):
        _log_departure(raw, no, external_id, now_ms)
    for query in (
        "erase_listed",
        "erase_overrides",
        "erase_deltas",
        "drop_subscriptions",
        "drop_user",
    ):
        raw.execute(SQL[query], user)


def _leave(raw: sqlite3.Connection, no: int, known: Sequence[int]) -> bool:
    """Subtract a user who is about to be removed from a segment's figures.

    Returns:
        Whether the user was a member.
    """
    cohort = load_cohort(raw, no)
    is_known, subscriptions, subscribed, is_restricted = known
    is_member = bool(is_known or (cohort.takes_all and not is_restricted))
    step = Figures(
        ids=-1,
        restricted_ids=-int(not is_known and bool(is_restricted)),
        matched_users=-int(is_member),
        without_subscription=-int(is_member and not subscriptions),
        only_unsubscribed=-int(subscriptions > 0 and not subscribed),
        subscribed_count=-subscribed,
    )
    move_figures(raw, no, step)
    return is_member and bool(cohort.is_segment)


def _log_departure(raw: sqlite3.Connection, no: int, external_id: str, now_ms: int) -> None:
    run = begin_run(raw, no, RunSource.DIRECTORY, now_ms, state=RunState.APPLIED)
    last = {"cohort": no, "external_id": external_id, "run": run, "at": now_ms}
    seq = raw.execute(SQL["log_departure"], last).lastrowid
    raw.execute(SQL["add_departure"], {"seq": seq, "at": now_ms})
    raw.execute(SQL["next_revision"], {"cohort": no, "at": now_ms})
    finish_run(raw, run, Outcome(RunState.APPLIED, removed=1), now_ms)
