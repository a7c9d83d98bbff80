"""Segments: list them, look into them, bring them up to date, take them back."""

from aiohttp import web
from pydantic import BaseModel

from relay.http.admin.context import AdminContext
from relay.http.admin.ndjson import NdjsonStream
from relay.http.admin.operations import AnyOperation, Call, NoInput, Operation
from relay.http.admin.schemas import Affected
from relay.http.admin.segment_schemas import (
    ChangeAnswer,
    ChangeListing,
    ChangePage,
    ExplainAnswer,
    GroupChoice,
    IdLine,
    MemberLine,
    RollbackOrder,
    SegmentDetail,
    SegmentListing,
    SegmentPage,
)
from relay.http.admin.segment_views import (
    answer_changes,
    answer_detail,
    answer_explanation,
    segment_page,
)
from relay.segments.read_model import KnownCohort, Segment

SEGMENT = "/segments/{app}/{cohort_id}"

EVERY_ROW = -1
"""Source: sqlite.org/lang_select.html (2026): a negative LIMIT sets none."""


class SegmentOperations:
    """The operations on segments."""

    def __init__(self, parts: AdminContext) -> None:
        self._parts = parts
        self._reading = parts.segments.reading

    def operations(self) -> list[AnyOperation]:
        """Return them."""
        return [*self._views(), *self._actions()]

    def _views(self) -> list[AnyOperation]:
        return [
            Operation(
                "GET", "/segments", "List segments.", SegmentListing, SegmentPage, self.list_all
            ),
            Operation("GET", SEGMENT, "Look into a segment.", NoInput, SegmentDetail, self.show),
            Operation(
                "GET",
                f"{SEGMENT}/members",
                "Send a segment's members.",
                NoInput,
                None,
                self.members,
                lines=MemberLine,
            ),
            Operation(
                "GET",
                f"{SEGMENT}/changes",
                "List a segment's changes; NDJSON sends all of them.",
                ChangeListing,
                ChangePage,
                self.changes,
                lines=ChangeAnswer,
            ),
            Operation(
                "GET",
                f"{SEGMENT}/explain",
                "Tell why a cohort's size and its segment's count differ, or who is behind that.",
                GroupChoice,
                ExplainAnswer,
                self.explain,
                lines=IdLine,
            ),
        ]

    def _actions(self) -> list[AnyOperation]:
        return [
            Operation(
                "POST",
                f"{SEGMENT}/sync",
                "Have a cohort downloaded soon, whether it changed or not.",
                NoInput,
                Affected,
                self.sync,
                conflict="The app's cohorts are not polled",
            ),
            Operation(
                "POST",
                f"{SEGMENT}/rollback",
                "Undo the last runs that changed a segment.",
                RollbackOrder,
                Affected,
                self.roll_back,
                conflict="No run is kept that leads there",
            ),
        ]

    async def list_all(self, call: Call[SegmentListing]) -> SegmentPage:
        """Return a page of segments, in the order in which their cohorts were first heard of."""
        asked = call.asked
        if asked.app is not None:
            self._parts.check(asked.app)
        found = await self._reading.segments(
            asked.app, asked.state, after=asked.after, limit=asked.limit + 1
        )
        return segment_page(found, asked.limit)

    async def show(self, call: Call[BaseModel]) -> SegmentDetail:
        """Return everything about one segment."""
        segment = await self._segment(call)
        due = self._parts.pollers[segment.app].due_of(segment.cohort_id)
        return await answer_detail(self._parts.segments, segment, due)

    async def members(self, call: Call[BaseModel]) -> NdjsonStream:
        """Send the members of one revision, by id."""
        segment = await self._segment(call)
        named = {"app": segment.app, "cohort_id": segment.cohort_id}
        return NdjsonStream(self._reading.stream("members", named))

    async def changes(self, call: Call[ChangeListing]) -> ChangePage | NdjsonStream:
        """Return a page of changes, or send all of them, oldest first."""
        number = (await self._segment(call)).no
        after, limit = call.asked.after, call.asked.limit
        if call.wants_lines:
            page = {"cohort": number, "after": after, "limit": EVERY_ROW}
            return NdjsonStream(self._reading.stream("changes_page", page))
        return answer_changes(await self._reading.changes(number, after=after, limit=limit), after)

    async def explain(self, call: Call[GroupChoice]) -> ExplainAnswer | NdjsonStream:
        """Return the numbers, or send the ids behind one of them."""
        cohort = await self._cohort(call)
        if not cohort.list:
            raise web.HTTPNotFound(text="nothing of this cohort is applied yet")
        if call.asked.group is None:
            return answer_explanation(await self._reading.explain(cohort.no))
        behind = {"cohort": cohort.no, "group": call.asked.group}
        return NdjsonStream(self._reading.stream("ids_behind", behind))

    async def sync(self, call: Call[BaseModel]) -> Affected:
        """Ask for a download; 0 if it is under way."""
        app, cohort_id = call.path["app"], call.path["cohort_id"]
        self._parts.check(app)
        return Affected(affected=int(await self._parts.pollers[app].request_sync(cohort_id)))

    async def roll_back(self, call: Call[RollbackOrder]) -> Affected:
        """Take a segment back to a revision, or behind its last run."""
        cohort = await self._cohort(call)
        await self._parts.segments.decisions.roll_back(
            cohort.no, call.asked.revision, self._parts.clock.now_ms()
        )
        return Affected(affected=1)

    async def _segment(self, call: Call[ChangeListing] | Call[BaseModel]) -> Segment:
        app, cohort_id = call.path["app"], call.path["cohort_id"]
        self._parts.check(app)
        segment = await self._reading.segment(app, cohort_id)
        if segment is None:
            raise web.HTTPNotFound(text=f"{app} has no segment of a cohort with that id")
        return segment

    async def _cohort(self, call: Call[GroupChoice] | Call[RollbackOrder]) -> KnownCohort:
        app, cohort_id = call.path["app"], call.path["cohort_id"]
        self._parts.check(app)
        cohort = await self._reading.cohort(app, cohort_id)
        if cohort is None:
            raise web.HTTPNotFound(text=f"{app} has no cohort with that id")
        return cohort
