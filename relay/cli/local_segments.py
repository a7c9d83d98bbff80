"""Segments, runs and the directory of a segment table that this process has opened itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import BaseModel

from relay.cli.admin_api import Line, NotThere
from relay.cli.segment_desk import PAGE_ITEMS, WantedRuns
from relay.clock import SystemClock
from relay.http.admin.schemas import MAX_ID
from relay.http.admin.segment_schemas import (
    ChangeAnswer,
    DirectoryAnswer,
    ExplainAnswer,
    IdLine,
    MemberLine,
    RunPage,
    SegmentDetail,
    SegmentPage,
    UserAnswer,
)
from relay.http.admin.segment_views import (
    answer_detail,
    answer_directory,
    answer_explanation,
    answer_user,
    run_page,
    segment_page,
)
from relay.segments.read_model import KnownCohort, Segment
from relay.segments.store import Segments


class LocalSegmentDesk:
    """The segments of a table that no daemon has open."""

    knows_due = False

    def __init__(self, segments: Segments) -> None:
        self._segments = segments

    async def segments(self, app: str | None, state: str | None, *, after: int) -> SegmentPage:
        """Return a page of segments."""
        found = await self._segments.read_model.segments(
            app, state, after=after, limit=PAGE_ITEMS + 1
        )
        return segment_page(found, PAGE_ITEMS)

    async def segment(self, app: str, cohort_id: str) -> SegmentDetail:
        """Return everything about one segment."""
        return await answer_detail(self._segments, await self._segment(app, cohort_id), None)

    async def explain(self, app: str, cohort_id: str) -> ExplainAnswer:
        """Return why a cohort's size and its segment's count differ."""
        cohort = await self._cohort(app, cohort_id)
        return answer_explanation(await self._segments.read_model.explain(cohort.no))

    @asynccontextmanager
    async def ids_behind(
        self, app: str, cohort_id: str, group: str
    ) -> AsyncIterator[AsyncIterator[Line]]:
        """Open the stream of ids behind one number of an explanation."""
        cohort = await self._cohort(app, cohort_id)
        async with self._segments.read_model.ids_behind(cohort.no, group) as blocks:
            yield _lines(blocks, IdLine)

    @asynccontextmanager
    async def members(self, app: str, cohort_id: str) -> AsyncIterator[AsyncIterator[Line]]:
        """Open the stream of a segment's members."""
        await self._segment(app, cohort_id)
        async with self._segments.read_model.members(app, cohort_id) as blocks:
            yield _lines(blocks, MemberLine)

    @asynccontextmanager
    async def changes(
        self, app: str, cohort_id: str, *, after: int
    ) -> AsyncIterator[AsyncIterator[Line]]:
        """Open the stream of a segment's changes after one of them, oldest first."""
        segment = await self._segment(app, cohort_id)
        async with self._segments.read_model.all_changes(segment.no, after=after) as blocks:
            yield _lines(blocks, ChangeAnswer)

    async def roll_back(self, app: str, cohort_id: str, revision: int | None) -> None:
        """Undo the last run, or all that came after a revision."""
        cohort = await self._cohort(app, cohort_id)
        now_ms = SystemClock().now_ms()
        await self._segments.review.roll_back(cohort.no, revision, now_ms)

    async def runs(self, wanted: WantedRuns, *, after: int | None, limit: int) -> RunPage:
        """Return a page of runs, newest first."""
        found = await self._segments.read_model.runs(
            *wanted, before=MAX_ID if after is None else after, limit=limit + 1
        )
        return run_page(found, limit)

    async def user(self, app: str, external_id: str) -> UserAnswer:
        """Return what is known of a user."""
        known = await self._segments.read_model.user(app, external_id)
        answer = answer_user(app, external_id, known)
        if answer is None:
            raise NotThere(f"neither the directory of {app} nor any of its cohorts has that user")
        return answer

    async def directory(self, app: str) -> DirectoryAnswer:
        """Return how large an app's directory is, and how old."""
        number = self._segments.cohorts.number(app)
        return answer_directory(app, await self._segments.directory.counts(number))

    async def _segment(self, app: str, cohort_id: str) -> Segment:
        segment = await self._segments.read_model.segment(app, cohort_id)
        if segment is None:
            raise NotThere(f"{app} has no segment of a cohort with that id")
        return segment

    async def _cohort(self, app: str, cohort_id: str) -> KnownCohort:
        cohort = await self._segments.read_model.cohort(app, cohort_id)
        if cohort is None or not cohort.list:
            raise NotThere(f"nothing of a cohort with that id was ever applied in {app}")
        return cohort


async def _lines(
    blocks: AsyncIterator[Sequence[tuple[object, ...]]], shape: type[BaseModel]
) -> AsyncIterator[Line]:
    """Yield every row as an object whose fields the columns are."""
    names = tuple(shape.model_fields)
    async for block in blocks:
        for row in block:
            yield dict(zip(names, row, strict=True))
