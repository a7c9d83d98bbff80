"""Segments: list them, look into them, bring them up to date, take them back."""

from collections.abc import Mapping

from relay.errors import NotFound
from relay.http.admin.context import AdminContext, SegmentsContext
from relay.http.admin.ndjson import NdjsonStream
from relay.http.admin.operations import Call, NoInput, NoOutput, Operation
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

_SEGMENT = "/segments/{app}/{cohort_id}"


async def _list(context: SegmentsContext, call: Call[SegmentListing]) -> SegmentPage:
    """Return a page of segments, in the order in which their cohorts were first listed."""
    asked = call.input
    if asked.app is not None:
        context.check(asked.app)
    found = await context.segments.read_model.segments(
        asked.app, asked.state, after=asked.after, limit=asked.limit + 1
    )
    return segment_page(found, asked.limit)


async def _show(context: SegmentsContext, call: Call[NoInput]) -> SegmentDetail:
    segment = await _segment(context, call.path)
    poller = context.apps[segment.app].poller
    due = poller.due_of(segment.cohort_id) if poller else None
    return await answer_detail(context.segments, segment, due)


async def _members(context: SegmentsContext, call: Call[NoInput]) -> NdjsonStream:
    """Stream the members of one revision, by id."""
    segment = await _segment(context, call.path)
    return NdjsonStream(context.segments.read_model.members(segment.app, segment.cohort_id))


async def _changes(
    context: SegmentsContext, call: Call[ChangeListing]
) -> ChangePage | NdjsonStream:
    number = (await _segment(context, call.path)).no
    after, limit = call.input.after, call.input.limit
    reading = context.segments.read_model
    if call.wants_lines:
        return NdjsonStream(reading.all_changes(number, after=after))
    return answer_changes(await reading.changes(number, after=after, limit=limit), after)


async def _explain(
    context: SegmentsContext, call: Call[GroupChoice]
) -> ExplainAnswer | NdjsonStream:
    cohort = await _cohort(context, call.path)
    if not cohort.list:
        raise NotFound("nothing of this cohort is applied yet")
    reading = context.segments.read_model
    if call.input.group is None:
        return answer_explanation(await reading.explain(cohort.no))
    return NdjsonStream(reading.ids_behind(cohort.no, call.input.group))


async def _sync(context: AdminContext, call: Call[NoInput]) -> Affected:
    """Ask for a download; 0 if one is running already."""
    app, cohort_id = call.path["app"], call.path["cohort_id"]
    context.check(app)
    return Affected(affected=int(await context.apps[app].poller.request_sync(cohort_id)))


async def _roll_back(context: SegmentsContext, call: Call[RollbackOrder]) -> Affected:
    cohort = await _cohort(context, call.path)
    await context.segments.review.roll_back(cohort.no, call.input.revision, context.clock.now_ms())
    return Affected(affected=1)


async def _segment(context: SegmentsContext, path: Mapping[str, str]) -> Segment:
    app, cohort_id = path["app"], path["cohort_id"]
    context.check(app)
    segment = await context.segments.read_model.segment(app, cohort_id)
    if segment is None:
        raise NotFound(f"{app} has no segment of a cohort with that id")
    return segment


async def _cohort(context: SegmentsContext, path: Mapping[str, str]) -> KnownCohort:
    app, cohort_id = path["app"], path["cohort_id"]
    context.check(app)
    cohort = await context.segments.read_model.cohort(app, cohort_id)
    if cohort is None:
        raise NotFound(f"{app} has no cohort with that id")
    return cohort


LIST_SEGMENTS = Operation("GET", "/segments", "List segments.", SegmentListing, SegmentPage, _list)
SHOW_SEGMENT = Operation("GET", _SEGMENT, "Look into a segment.", NoInput, SegmentDetail, _show)
LIST_MEMBERS = Operation(
    "GET",
    f"{_SEGMENT}/members",
    "Send a segment's members.",
    NoInput,
    NoOutput,
    _members,
    lines=MemberLine,
)
LIST_CHANGES = Operation(
    "GET",
    f"{_SEGMENT}/changes",
    "List a segment's changes; NDJSON sends all of them.",
    ChangeListing,
    ChangePage,
    _changes,
    lines=ChangeAnswer,
)
EXPLAIN_SEGMENT = Operation(
    "GET",
    f"{_SEGMENT}/explain",
    "Tell why a cohort's size and its segment's count differ, or who is behind that.",
    GroupChoice,
    ExplainAnswer,
    _explain,
    lines=IdLine,
)
SYNC_SEGMENT = Operation(
    "POST",
    f"{_SEGMENT}/sync",
    "Have a cohort downloaded soon, whether it changed or not.",
    NoInput,
    Affected,
    _sync,
    conflict="The app's cohorts are not polled",
)
ROLL_BACK_SEGMENT = Operation(
    "POST",
    f"{_SEGMENT}/rollback",
    "Undo the last runs that changed a segment.",
    RollbackOrder,
    Affected,
    _roll_back,
    conflict="No run is kept that leads there",
)

OPERATIONS = (
    LIST_SEGMENTS,
    SHOW_SEGMENT,
    LIST_MEMBERS,
    LIST_CHANGES,
    EXPLAIN_SEGMENT,
    SYNC_SEGMENT,
    ROLL_BACK_SEGMENT,
)
