"""Everything that is read of the segment table: pages of lists, streams of anything long."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, NamedTuple, TypeAlias, TypeVar

from relay.database.database import Database, Row
from relay.database.stream import RowStreams
from relay.segments.review import UNDOABLE_RUNS
from relay.segments.sql import SQL

GROUPS: Final = (
    "restricted_ids",
    "unknown_users",
    "matched_users",
    "matched_without_subscription",
    "only_unsubscribed",
    "subscribed_users",
)
"""Numbers of an explanation that have ids behind them."""

_NO_LIMIT: Final = -1
"""Source: sqlite.org/lang_select.html (2026): a negative LIMIT is none."""

Line = TypeVar("Line", bound=NamedTuple)

Stream: TypeAlias = AbstractAsyncContextManager[AsyncIterator[list[Line]]]
"""Rows of any number, in blocks: entered, it is one revision to its last row.

Entering raises `StoreFull` if too many streams are open, `StoreFailed` if the file cannot be read.
"""


class Segment(NamedTuple):
    """A segment as the view of that name shows it, and its cohort's number."""

    no: int
    app: str
    cohort_id: str
    name: str
    state: str
    cohort_size: int
    matched_users: int
    subscribed_count: int
    revision: int
    computed_at: int | None
    applied_at: int | None


class KnownCohort(NamedTuple):
    """A cohort: its number, name, list in force (0 if none), and whether it has a segment."""

    no: int
    name: str
    list: int
    is_segment: int


class Explanation(NamedTuple):
    """Why a cohort's size and its segment's count differ, in numbers that add up.

    `cohort_size` = `empty_ids` + `restricted_ids` + `unknown_users` + `matched_users`;
    `matched_users` = `matched_without_subscription` + `only_unsubscribed` + `subscribed_users`.
    """

    cohort_size: int
    empty_ids: int
    restricted_ids: int
    unknown_users: int
    matched_users: int
    matched_without_subscription: int
    only_unsubscribed: int
    subscribed_users: int
    subscribed_count: int


class Member(NamedTuple):
    """A member of a segment, and since when."""

    external_id: str
    entered_at: int


class ExplainedId(NamedTuple):
    """An id of a cohort, with the counts of its subscriptions in the directory."""

    external_id: str
    subscriptions: int
    subscribed: int


class Change(NamedTuple):
    """One change of a segment: `entered` or `left`."""

    seq: int
    external_id: str
    change: str
    run_id: int
    at: int


class Run(NamedTuple):
    """A run as the view `cohort_runs` shows it."""

    run_id: int
    app: str
    cohort_id: str
    source: str
    state: str
    started_at: int
    finished_at: int | None
    members: int
    empty_ids: int
    unknown_users: int
    added: int
    removed: int
    reason: str | None


class Undoable(NamedTuple):
    """A run that changed a cohort's list and can be undone."""

    run_id: int
    source: str
    finished_at: int
    revision: int
    added: int
    removed: int


class CohortOfUser(NamedTuple):
    """One user in one cohort."""

    cohort_id: str
    name: str
    is_segment: int
    is_listed: int
    entered_at: int
    is_known: int
    is_restricted: int
    takes_all: int

    @property
    def is_member(self) -> bool:
        """Whether the user is a member of the segment."""
        return bool(self.is_segment) and self.reason is None

    @property
    def reason(self) -> str | None:
        """Why the user is no member, None if the user is one, or would be."""
        if not self.is_listed:
            return "Amplitude does not list the user in this cohort"
        if self.is_known:
            return None if self.is_segment else "the app's segment limit allows no further segment"
        if self.is_restricted:
            return "OneSignal refuses this id as an External ID"
        if not self.takes_all:
            return "OneSignal knows no user with this External ID"
        return None


class KnownUser(NamedTuple):
    """A user of the directory.

    Attributes:
        known_at: Since when, UTC epoch milliseconds; None if OneSignal does not know the user.
        subscriptions: `(id, type, is_subscribed)` each.
        cohorts: The user in every cohort that has a list.
    """

    known_at: int | None
    subscriptions: list[tuple[str, str, bool]]
    cohorts: list[CohortOfUser]


class Overview(NamedTuple):
    """An app's segments by state, when one was last applied, when a run last ended."""

    states: Mapping[str, int]
    last_applied_at: int | None
    last_run_at: int | None


class ReadModel:
    """Answers every question about the segment table."""

    def __init__(self, database: Database, streams: RowStreams) -> None:
        self._database = database
        self._streams = streams

    async def segments(
        self, app: str | None, state: str | None, *, after: int, limit: int
    ) -> list[Segment]:
        """Return a page of segments, by the number of their cohort."""
        page = {"app": app, "state": state, "after": after, "limit": limit}
        return [Segment(*row) for row in await self._database.fetch(SQL["segments_page"], page)]

    async def segment(self, app: str, cohort_id: str) -> Segment | None:
        """Return one segment, None if there is none."""
        named = {"app": app, "cohort_id": cohort_id}
        rows = await self._database.fetch(SQL["segment"], named)
        return Segment(*rows[0]) if rows else None

    async def cohort(self, app: str, cohort_id: str) -> KnownCohort | None:
        """Return one cohort, None if there is none."""
        named = {"app": app, "cohort_id": cohort_id}
        rows = await self._database.fetch(SQL["cohort_of"], named)
        return KnownCohort(*rows[0]) if rows else None

    async def explain(self, cohort: int) -> Explanation:
        """Return why a cohort's size and its segment's count differ."""
        ((*numbers,),) = await self._database.fetch(SQL["explain"], {"cohort": cohort})
        return Explanation(*numbers)

    async def changes(self, cohort: int, *, after: int, limit: int) -> list[Change]:
        """Return a page of a segment's changes, oldest first."""
        page = {"cohort": cohort, "after": after, "limit": limit}
        return [Change(*row) for row in await self._database.fetch(SQL["changes_page"], page)]

    async def runs(
        self, app: str | None, cohort_id: str | None, state: str | None, *, before: int, limit: int
    ) -> list[Run]:
        """Return a page of runs, newest first."""
        page = {
            "app": app,
            "cohort_id": cohort_id,
            "state": state,
            "before": before,
            "limit": limit,
        }
        return [Run(*row) for row in await self._database.fetch(SQL["runs_page"], page)]

    async def undoable(self, cohort: int) -> list[Undoable]:
        """Return the runs of a cohort that can be undone, newest first."""
        kept = {"cohort": cohort, "count": UNDOABLE_RUNS}
        return [Undoable(*row) for row in await self._database.fetch(SQL["undoable_runs"], kept)]

    async def user(self, app: str, external_id: str) -> KnownUser:
        """Return what is known of a user, in one consistent read."""
        return await self._database.read(partial(_read_user, app, external_id))

    async def overview(self, app: str, number: int) -> Overview:
        """Return the state of an app's segments in figures."""
        states = await self._database.fetch(SQL["overview"], {"app": app})
        runs = await self._database.fetch(SQL["last_run_of_app"], {"app": number})
        return Overview(
            {state: count for state, count, _ in states},
            max((at for _, _, at in states if at is not None), default=None),
            runs[0][0] if runs else None,
        )

    def members(self, app: str, cohort_id: str) -> Stream[Member]:
        """Open the members of a segment, by id."""
        return self._stream("members", Member._make, {"app": app, "cohort_id": cohort_id})

    def ids_behind(self, cohort: int, group: str) -> Stream[ExplainedId]:
        """Open the ids behind one number of an explanation, one of `GROUPS`."""
        scope = {"cohort": cohort, "group": group}
        return self._stream("ids_behind", ExplainedId._make, scope)

    def all_changes(self, cohort: int, *, after: int) -> Stream[Change]:
        """Open every change of a segment after one of them, oldest first."""
        scope = {"cohort": cohort, "after": after, "limit": _NO_LIMIT}
        return self._stream("changes_page", Change._make, scope)

    @asynccontextmanager
    async def _stream(
        self, query: str, make: Callable[[Row], Line], scope: Mapping[str, object]
    ) -> AsyncIterator[AsyncIterator[list[Line]]]:
        async with self._streams.open(SQL[query], scope) as blocks:
            yield ([make(row) for row in block] async for block in blocks)


def _read_user(app: str, external_id: str, raw: sqlite3.Connection) -> KnownUser:
    person = {"app": app, "external_id": external_id}
    row = raw.execute(SQL["user"], person).fetchone()
    subscriptions = raw.execute(SQL["subscriptions_of"], person).fetchall()
    cohorts = raw.execute(SQL["cohorts_of_user"], person).fetchall()
    return KnownUser(
        row[0] if row else None,
        [(id_, type_, bool(is_subscribed)) for id_, type_, is_subscribed in subscriptions],
        [CohortOfUser(*row) for row in cohorts],
    )
