"""Where commands deal with segments, runs and the directory, wherever those are."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol, TypeAlias

from relay.cli.admin_api import AdminApi, Line, path_of
from relay.http.admin.schemas import Affected
from relay.http.admin.segment_schemas import (
    DirectoryAnswer,
    ExplainAnswer,
    RunPage,
    SegmentDetail,
    SegmentPage,
    UserAnswer,
)

PAGE_ITEMS: Final = 1_000

Lines: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Line]]


class WantedRuns(NamedTuple):
    """Which runs a list is about; None leaves a condition out."""

    app: str | None = None
    cohort_id: str | None = None
    state: str | None = None


class SegmentDesk(Protocol):
    """Segments, runs and the directory, and what can be done with them.

    Whatever does not exist is told by `relay.cli.admin_api.NotThere`.
    """

    @property
    def knows_due(self) -> bool:
        """Whether it is known when a cohort is downloaded: a daemon's poller decides."""

    async def segments(self, app: str | None, state: str | None, *, after: int) -> SegmentPage:
        """Return a page of segments."""

    async def segment(self, app: str, cohort_id: str) -> SegmentDetail:
        """Return everything about one segment."""

    async def explain(self, app: str, cohort_id: str) -> ExplainAnswer:
        """Return why a cohort's size and its segment's count differ."""

    def ids_behind(self, app: str, cohort_id: str, group: str) -> Lines:
        """Open the stream of ids behind one number of an explanation."""

    def members(self, app: str, cohort_id: str) -> Lines:
        """Open the stream of a segment's members."""

    def changes(self, app: str, cohort_id: str, *, after: int) -> Lines:
        """Open the stream of a segment's changes after one of them, oldest first."""

    async def roll_back(self, app: str, cohort_id: str, revision: int | None) -> None:
        """Undo the last run, or all that came after a revision."""

    async def runs(self, wanted: WantedRuns, *, after: int | None, limit: int) -> RunPage:
        """Return a page of runs, newest first."""

    async def user(self, app: str, external_id: str) -> UserAnswer:
        """Return what is known of a user."""

    async def directory(self, app: str) -> DirectoryAnswer:
        """Return how large an app's directory is, and how old."""


class ApiSegmentDesk:
    """The segments of a running daemon."""

    knows_due = True

    def __init__(self, api: AdminApi) -> None:
        self._api = api

    async def segments(self, app: str | None, state: str | None, *, after: int) -> SegmentPage:
        """Return a page of segments."""
        query = _query(app=app, state=state, after=after, limit=PAGE_ITEMS)
        return await self._api.get("/segments", SegmentPage, query)

    async def segment(self, app: str, cohort_id: str) -> SegmentDetail:
        """Return everything about one segment."""
        return await self._api.get(segment_path(app, cohort_id), SegmentDetail)

    async def explain(self, app: str, cohort_id: str) -> ExplainAnswer:
        """Return why a cohort's size and its segment's count differ."""
        return await self._api.get(segment_path(app, cohort_id, "explain"), ExplainAnswer)

    def ids_behind(self, app: str, cohort_id: str, group: str) -> Lines:
        """Open the stream of ids behind one number of an explanation."""
        return self._api.lines(segment_path(app, cohort_id, "explain"), {"list": group})

    def members(self, app: str, cohort_id: str) -> Lines:
        """Open the stream of a segment's members."""
        return self._api.lines(segment_path(app, cohort_id, "members"))

    def changes(self, app: str, cohort_id: str, *, after: int) -> Lines:
        """Open the stream of a segment's changes after one of them, oldest first."""
        return self._api.lines(segment_path(app, cohort_id, "changes"), {"after": str(after)})

    async def roll_back(self, app: str, cohort_id: str, revision: int | None) -> None:
        """Undo the last run, or all that came after a revision."""
        body = {} if revision is None else {"revision": revision}
        await self._api.post(segment_path(app, cohort_id, "rollback"), Affected, body)

    async def runs(self, wanted: WantedRuns, *, after: int | None, limit: int) -> RunPage:
        """Return a page of runs, newest first."""
        query = _query(**wanted._asdict(), after=after, limit=limit)
        return await self._api.get("/cohort-runs", RunPage, query)

    async def user(self, app: str, external_id: str) -> UserAnswer:
        """Return what is known of a user."""
        return await self._api.get(path_of("users", app, external_id), UserAnswer)

    async def directory(self, app: str) -> DirectoryAnswer:
        """Return how large an app's directory is, and how old."""
        return await self._api.get(path_of("directory", app), DirectoryAnswer)


def segment_path(app: str, cohort_id: str, *rest: str) -> str:
    """Return where the API has a segment, or something of it."""
    return path_of("segments", app, cohort_id, *rest)


def _query(**conditions: str | int | None) -> Mapping[str, str]:
    return {name: str(value) for name, value in conditions.items() if value is not None}
