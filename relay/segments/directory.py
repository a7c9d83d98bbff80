"""The directory: whom OneSignal knows, and which of their subscriptions are subscribed.

Every change of it moves the segments of its app in the same transaction: somebody who becomes
known enters those whose list names him, and figures follow every flag. E-mail addresses, phone
numbers and push tokens never come here.
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
from relay.segments.erasure import Forgotten
from relay.segments.runs import Outcome, RunSource, RunState, begin_run, finish_run
from relay.segments.segment_update import (
    MembershipChange,
    create_segment,
    may_become_segment,
    move_figures,
    shift_segment,
)
from relay.segments.sorting import Piece
from relay.segments.sql import SQL

GATHER_MS = 60_000
"""What the directory does to a segment within a minute is one run."""


RANGE_USERS = 20_000
"""Known users that one transaction goes through, however few of them a file names."""


class ExportTruth(NamedTuple):
    """How much an export says.

    Attributes:
        at: The instant it tells of.
        is_whole: Whether a subscription it lacks is gone.
        drops_users: Whether a user it lacks is gone too.
    """

    at: int
    is_whole: bool
    drops_users: bool = False


class DirectoryCounts(NamedTuple):
    """How large an app's directory is, and how old.

    Attributes:
        users: Known users.
        subscriptions: Their subscriptions.
        subscribed: Of those, the subscribed ones.
        exported_at: When the last whole export was asked for, 0 if never.
        synced_at: When it was applied, None if never.
    """

    users: int
    subscriptions: int
    subscribed: int
    exported_at: int
    synced_at: int | None


class Directory:
    """Changes and reads the directory, by app number.

    It takes nothing of a forgotten user; that is asked at the last moment, when the change
    gets in line behind whatever forgets.

    Attributes:
        version: Rises with every change that does not come from events.
    """

    def __init__(self, database: Database, forgotten: Forgotten) -> None:
        self._database = database
        self._forgotten = forgotten
        self.version = 0

    async def apply_part(self, app: int, part: Piece, truth: ExportTruth, now_ms: int) -> None:
        """Apply a range of an export's users, sorted by `SortedRows`; what is newer stays."""
        after: str | None = part.after
        while after is not None:
            end = {"app": app, "after": after, "upto": part.upto, "count": RANGE_USERS}
            ends = await self._database.fetch(SQL["end_of_users"], end)
            upto = ends[0][0] if ends else part.upto
            rows = self._forgotten.without_rows(app, part.rows)
            piece = Piece(rows, after, upto)
            self.version += 1
            await self._database.write(partial(_apply_part, app, piece, truth, now_ms))
            after = upto if ends else None

    async def finish_export(self, app: int, truth: ExportTruth, now_ms: int) -> None:
        """Remember that a whole export was applied: it confirms what it did not change."""
        if truth.is_whole:
            done = {"app": app, "at": truth.at, "now": now_ms, "drops_users": truth.drops_users}
            await self._database.execute(SQL["mark_exported"], done)

    async def put_user(
        self, app: int, external_id: str, subscriptions: Sequence[SubscriptionRow], now_ms: int
    ) -> None:
        """Take an app's own word for a user: known, with just these subscriptions."""
        if (app, external_id) not in self._forgotten:
            self.version += 1
            await self._database.write(partial(_put_user, app, external_id, subscriptions, now_ms))

    async def heed(self, app: int, evidence: Sequence[Observation], now_ms: int) -> set[int]:
        """Learn from events; what says nothing new costs no write.

        Returns:
            The places of what said something new.
        """
        told = [
            (item.external_id, item.subscription_id, item.flag if item.is_proof_of_flag else None)
            for item in evidence
        ]
        rows = await self._database.fetch(SQL["news"], {"app": app, "evidence": _json(told)})
        places = {place for (place,) in rows}
        moved = {evidence[place].subscription_id for place in places}
        wanted = [
            item
            for item in evidence
            if item.subscription_id in moved  # with all that is told of it, in order
            and (app, item.external_id or "") not in self._forgotten
        ]
        if wanted:
            await self._database.write(partial(_heed, app, wanted, now_ms))
        return places

    async def counts(self, app: int) -> DirectoryCounts:
        """Return how large an app's directory is, and how old."""
        return await self._database.read(partial(_count, app))


def _apply_part(
    app: int, part: Piece, truth: ExportTruth, now_ms: int, raw: sqlite3.Connection
) -> None:
    scope = {"app": app, "at": truth.at, "after": part.after, "upto": part.upto}
    _clear(raw)
    raw.execute(SQL["tell"], {"rows": part.rows, "after": part.after, "upto": part.upto})
    if truth.drops_users:
        raw.execute(SQL["touch_absent_users"], scope)
    if truth.is_whole:
        raw.execute(SQL["touch_gone"], scope)
        raw.execute(SQL["drop_gone"], scope)
    raw.execute(SQL["touch_users_told"], scope)
    named = raw.execute(SQL["named_users"]).fetchone()[0] if truth.drops_users else "[]"
    raw.execute(SQL["drop_old_news"], {**scope, "skips_known": truth.is_whole})
    _store(raw, app, truth.at, is_told=False)
    raw.execute(SQL["refresh_users"], {"app": app, "now": now_ms})
    if truth.drops_users:
        raw.execute(SQL["drop_absent_users"], {**scope, "named": named})
    move_segments(raw, app, now_ms)


def _put_user(
    app: int,
    external_id: str,
    subscriptions: Sequence[SubscriptionRow],
    now_ms: int,
    raw: sqlite3.Connection,
) -> None:
    _clear(raw)
    rows = [(external_id, row.id, row.type, int(row.is_subscribed)) for row in subscriptions]
    raw.execute(SQL["tell"], {"rows": _json(rows), "after": "", "upto": None})
    raw.execute(SQL["touch"], {"app": app, "ids": _json([external_id])})
    raw.execute(SQL["drop_other_subscriptions"], {"app": app, "external_id": external_id})
    _store(raw, app, now_ms, is_told=True)
    raw.execute(SQL["refresh_users"], {"app": app, "now": now_ms})
    move_segments(raw, app, now_ms)


def _heed(app: int, evidence: Sequence[Observation], now_ms: int, raw: sqlite3.Connection) -> None:
    exported_at, replaced_at = raw.execute(SQL["exported_at"], {"app": app}).fetchone()
    _clear(raw)
    users = sorted({e.external_id for e in evidence if e.external_id and e.at >= replaced_at})
    raw.execute(SQL["touch"], {"app": app, "ids": _json(users)})
    for item in evidence:
        named = {"app": app, "id": item.subscription_id}
        row = raw.execute(SQL["subscription"], named).fetchone()
        known = KnownSubscription(*row) if row else None
        now_known = merge(item, known, exported_at)
        if now_known is None:
            continue
        owners = {now_known.external_id} | ({known.external_id} if known else set())
        raw.execute(SQL["touch"], {"app": app, "ids": _json(sorted(owners))})
        raw.execute(SQL["store_subscription"], {**named, **now_known._asdict()})
    raw.execute(SQL["refresh_users"], {"app": app, "now": now_ms})
    move_segments(raw, app, now_ms)


def _store(raw: sqlite3.Connection, app: int, at: int, *, is_told: bool) -> None:
    raw.execute(SQL["touch_told"], {"app": app})
    raw.execute(SQL["touch_former_owners"], {"app": app})
    raw.execute(SQL["store_told"], {"app": app, "at": at, "is_told": is_told})


def move_segments(raw: sqlite3.Connection, app: int, at: int) -> None:
    """Let every segment of an app follow the users in `touched`, as they are by now."""
    scope = {"app": app, "takes_all": _takes_all(raw, app)}
    for no, *moved, entered, departed in raw.execute(SQL["figures_of_touched"], scope).fetchall():
        figures = read_figures((0, *moved))
        if not any((*figures, entered, departed)):
            continue
        _move_segment(raw, no, figures, (entered or 0, departed or 0), at)


def _move_segment(
    raw: sqlite3.Connection, no: int, figures: Figures, members: tuple[int, int], at: int
) -> None:
    cohort = load_cohort(raw, no)
    if cohort.is_segment and any(members):
        run = _gathering_run(raw, no, at)
        told = {"cohort": no, "list": cohort.list, "run": run, "at": at, **cohort.scope}
        shift = MembershipChange(figures, *members, lambda: raw.execute(SQL["log_touched"], told))
        effect = shift_segment(raw, cohort, run, shift, at)
    else:
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
    raw.execute(SQL["clear_told"])


def _count(app: int, raw: sqlite3.Connection) -> DirectoryCounts:
    scope = {"app": app}
    (users,) = raw.execute(SQL["count_users"], scope).fetchone()
    subscriptions, subscribed = raw.execute(SQL["count_subscriptions"], scope).fetchone()
    exported_at, synced_at = raw.execute(SQL["sync_state"], scope).fetchone()
    return DirectoryCounts(users, subscriptions, subscribed, exported_at, synced_at)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
