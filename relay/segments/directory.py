"""The directory: the users OneSignal knows, and which of their subscriptions are subscribed.

Every change of it updates the segments of its app in the same transaction: a user who becomes
known enters each segment whose list has the id, and figures follow every flag. E-mail addresses,
phone numbers and push tokens are never stored.
"""

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import orjson

from relay.database.database import Database
from relay.events.observation import KnownSubscription, Observation, merge
from relay.onesignal.export_file import SubscriptionRow
from relay.segments.cohort_row import Figures, load_cohort, read_figures
from relay.segments.erasure import ForgottenUsers
from relay.segments.runs import Outcome, RunSource, RunState, begin_run, finish_run
from relay.segments.segment_update import (
    MembershipChange,
    create_segment,
    may_become_segment,
    move_figures,
    update_segment,
)
from relay.segments.sorting import Piece
from relay.segments.sql import SQL

GATHER_MS = 60_000
"""Changes that the directory makes to one segment within a minute share one run."""

RANGE_USERS = 20_000
"""Known users that one transaction covers, however few of them a file names."""


class ExportScope(NamedTuple):
    """What may be concluded from an export.

    Attributes:
        at: The instant it describes, UTC epoch milliseconds.
        is_complete: Whether a subscription missing from it no longer exists.
        drops_users: Whether a user missing from it is no longer known either.
    """

    at: int
    is_complete: bool
    drops_users: bool = False


class DirectoryCounts(NamedTuple):
    """The size and age of an app's directory.

    Attributes:
        users: Known users.
        subscriptions: Their subscriptions.
        subscribed: Of those, the subscribed ones.
        exported_at: When the last complete export was asked for, 0 if never.
        synced_at: When it was applied, None if never.
    """

    users: int
    subscriptions: int
    subscribed: int
    exported_at: int
    synced_at: int | None


class Directory:
    """Changes and reads the directory, by app number.

    Forgotten users are left out right before a change is queued, behind any erasure.

    Attributes:
        version: Rises with every change that does not come from events.
    """

    def __init__(self, database: Database, forgotten: ForgottenUsers) -> None:
        self._database = database
        self._forgotten = forgotten
        self.version = 0

    async def apply_part(self, app: int, part: Piece, scope: ExportScope, now_ms: int) -> None:
        """Apply a range of an export's users, sorted by `SortedRows`; newer rows stay."""
        after: str | None = part.after
        while after is not None:
            # A small file may span a directory of millions: the range is cut by known users too.
            end = {"app": app, "after": after, "upto": part.upto, "count": RANGE_USERS}
            ends = await self._database.fetch(SQL["end_of_users"], end)
            upto = ends[0][0] if ends else part.upto
            rows = self._forgotten.without_rows(app, part.rows)
            piece = Piece(rows, after, upto)
            self.version += 1
            await self._database.write(partial(_apply_part, app, piece, scope, now_ms))
            after = upto if ends else None

    async def finish_export(self, app: int, scope: ExportScope, now_ms: int) -> None:
        """Store that a complete export was applied: it confirms the rows it did not change."""
        if scope.is_complete:
            done = {"app": app, "at": scope.at, "now": now_ms, "drops_users": scope.drops_users}
            await self._database.execute(SQL["mark_exported"], done)

    async def put_user(
        self, app: int, external_id: str, subscriptions: Sequence[SubscriptionRow], now_ms: int
    ) -> None:
        """Store a user as the app states it: known, with exactly these subscriptions."""
        if (app, external_id) not in self._forgotten:
            self.version += 1
            await self._database.write(partial(_put_user, app, external_id, subscriptions, now_ms))

    async def apply_observations(
        self, app: int, observations: Sequence[Observation], now_ms: int
    ) -> set[int]:
        """Merge observations of events, oldest first; what is known already costs no write.

        Returns:
            The positions of the observations that were new.
        """
        seen = [
            (item.external_id, item.subscription_id, item.flag if item.is_proof_of_flag else None)
            for item in observations
        ]
        rows = await self._database.fetch(SQL["find_news"], {"app": app, "observed": _json(seen)})
        places = {place for (place,) in rows}
        moved = {observations[place].subscription_id for place in places}
        # All observations of a subscription that moves, in order: an older one that looked known
        # may be new after the one before it.
        wanted = [
            item
            for item in observations
            if item.subscription_id in moved
            and (app, item.external_id or "") not in self._forgotten
        ]
        if wanted:
            await self._database.write(partial(_apply_observations, app, wanted, now_ms))
        return places

    async def counts(self, app: int) -> DirectoryCounts:
        """Return the size and age of an app's directory."""
        return await self._database.read(partial(_count, app))


def _apply_part(
    app: int, part: Piece, scope: ExportScope, now_ms: int, raw: sqlite3.Connection
) -> None:
    bounds = {"app": app, "at": scope.at, "after": part.after, "upto": part.upto}
    _clear(raw)
    raw.execute(SQL["add_incoming"], {"rows": part.rows, "after": part.after, "upto": part.upto})
    # Every user is put into `touched` before a row of theirs changes: figures are moved by the
    # difference between then and now.
    if scope.drops_users:
        raw.execute(SQL["touch_absent_users"], bounds)
    if scope.is_complete:
        raw.execute(SQL["touch_gone"], bounds)
        raw.execute(SQL["drop_gone"], bounds)
    raw.execute(SQL["touch_new_users"], bounds)
    # Named users stay even if every row of theirs is dropped from `incoming` as nothing new.
    named = raw.execute(SQL["named_users"]).fetchone()[0] if scope.drops_users else "[]"
    raw.execute(SQL["drop_old_incoming"], {**bounds, "skips_known": scope.is_complete})
    _store(raw, app, scope.at, is_from_app=False)
    raw.execute(SQL["refresh_users"], {"app": app, "now": now_ms})
    if scope.drops_users:
        raw.execute(SQL["drop_absent_users"], {**bounds, "named": named})
    update_segments(raw, app, now_ms)


def _put_user(
    app: int,
    external_id: str,
    subscriptions: Sequence[SubscriptionRow],
    now_ms: int,
    raw: sqlite3.Connection,
) -> None:
    _clear(raw)
    rows = [(external_id, row.id, row.type, int(row.is_subscribed)) for row in subscriptions]
    raw.execute(SQL["add_incoming"], {"rows": _json(rows), "after": "", "upto": None})
    raw.execute(SQL["touch"], {"app": app, "ids": _json([external_id])})
    raw.execute(SQL["drop_other_subscriptions"], {"app": app, "external_id": external_id})
    _store(raw, app, now_ms, is_from_app=True)
    raw.execute(SQL["refresh_users"], {"app": app, "now": now_ms})
    update_segments(raw, app, now_ms)


def _apply_observations(
    app: int, observations: Sequence[Observation], now_ms: int, raw: sqlite3.Connection
) -> None:
    exported_at, replaced_at = raw.execute(SQL["exported_at"], {"app": app}).fetchone()
    _clear(raw)
    # An event proves its user, unless a file that replaced the directory is newer and lacks it.
    users = sorted({e.external_id for e in observations if e.external_id and e.at >= replaced_at})
    raw.execute(SQL["touch"], {"app": app, "ids": _json(users)})
    for item in observations:
        named = {"app": app, "id": item.subscription_id}
        row = raw.execute(SQL["subscription"], named).fetchone()
        known = KnownSubscription(*row) if row else None
        merged = merge(item, known, exported_at)
        if merged is None:
            continue
        owners = {merged.external_id} | ({known.external_id} if known else set())
        raw.execute(SQL["touch"], {"app": app, "ids": _json(sorted(owners))})
        raw.execute(SQL["store_subscription"], {**named, **merged._asdict()})
    raw.execute(SQL["refresh_users"], {"app": app, "now": now_ms})
    update_segments(raw, app, now_ms)


def _store(raw: sqlite3.Connection, app: int, at: int, *, is_from_app: bool) -> None:
    raw.execute(SQL["touch_incoming_users"], {"app": app})
    raw.execute(SQL["touch_former_owners"], {"app": app})
    raw.execute(SQL["store_incoming"], {"app": app, "at": at, "is_from_app": is_from_app})


def update_segments(raw: sqlite3.Connection, app: int, at: int) -> None:
    """Update every segment of an app for the users in `touched`, as they are by now."""
    scope = {"app": app, "takes_all": _takes_all(raw, app)}
    for no, *moved, entered, departed in raw.execute(SQL["figures_of_touched"], scope).fetchall():
        figures = read_figures((0, *moved))
        if any((*figures, entered, departed)):
            _update_segment(raw, no, figures, (entered or 0, departed or 0), at)


def _update_segment(
    raw: sqlite3.Connection, no: int, figures: Figures, members: tuple[int, int], at: int
) -> None:
    cohort = load_cohort(raw, no)
    if cohort.is_segment and any(members):
        run = _gathering_run(raw, no, at)
        logged = {"cohort": no, "list": cohort.list, "run": run, "at": at, **cohort.membership}
        change = MembershipChange(
            figures, *members, lambda: raw.execute(SQL["log_touched"], logged)
        )
        effect = update_segment(raw, cohort, run, change, at)
    else:
        # Only figures move: no run, unless the cohort becomes a segment by it.
        matched_users = move_figures(raw, no, figures)
        if cohort.is_segment or not may_become_segment(raw, cohort, matched_users):
            return
        run = _gathering_run(raw, no, at)
        effect = create_segment(raw, cohort, run, at)
    finish_run(raw, run, Outcome(RunState.APPLIED, effect.added, effect.removed), at)


def _gathering_run(raw: sqlite3.Connection, cohort: int, at: int) -> int:
    recent = {"cohort": cohort, "since": at - GATHER_MS}
    row = raw.execute(SQL["directory_run"], recent).fetchone()
    if row:
        return int(row[0])
    return begin_run(raw, cohort, RunSource.DIRECTORY, at, state=RunState.APPLIED)


def _takes_all(raw: sqlite3.Connection, app: int) -> int:
    return int(raw.execute(SQL["takes_all"], {"app": app}).fetchone()[0])


def _clear(raw: sqlite3.Connection) -> None:
    raw.execute(SQL["clear_touched"])
    raw.execute(SQL["clear_incoming"])


def _count(app: int, raw: sqlite3.Connection) -> DirectoryCounts:
    scope = {"app": app}
    (users,) = raw.execute(SQL["count_users"], scope).fetchone()
    subscriptions, subscribed = raw.execute(SQL["count_subscriptions"], scope).fetchone()
    exported_at, synced_at = raw.execute(SQL["sync_state"], scope).fetchone()
    return DirectoryCounts(users, subscriptions, subscribed, exported_at, synced_at)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
