"""Cohort runs: list them, approve or reject those that are held."""

from collections.abc import Awaitable, Callable

from relay.errors import NotFound
from relay.http.admin.context import SegmentsContext
from relay.http.admin.operations import Call, NoInput, Operation
from relay.http.admin.schemas import MAX_ID, Affected
from relay.http.admin.segment_schemas import RunListing, RunPage
from relay.http.admin.segment_views import run_page

_NOT_HELD = "The run is not held"


async def _list(context: SegmentsContext, call: Call[RunListing]) -> RunPage:
    asked = call.input
    if asked.app is not None:
        context.check(asked.app)
    found = await context.segments.read_model.runs(
        asked.app,
        asked.cohort_id,
        asked.state,
        before=MAX_ID if asked.after is None else asked.after,
        limit=asked.limit + 1,
    )
    return run_page(found, asked.limit)


async def _approve(context: SegmentsContext, call: Call[NoInput]) -> Affected:
    return await _decide(context, call, context.segments.review.approve)


async def _reject(context: SegmentsContext, call: Call[NoInput]) -> Affected:
    return await _decide(context, call, context.segments.review.reject)


async def _decide(
    context: SegmentsContext, call: Call[NoInput], decide: Callable[[int, int], Awaitable[None]]
) -> Affected:
    await decide(_run_id(call.path["run_id"]), context.clock.now_ms())
    return Affected(affected=1)


def _run_id(text: str) -> int:
    """Return the run a path names.

    Raises:
        NotFound: If it cannot be the number of a run.
    """
    if text.isascii() and text.isdecimal() and len(text) < len(str(MAX_ID)):
        return int(text)
    raise NotFound("a run is named by its number")


LIST_RUNS = Operation("GET", "/cohort-runs", "List runs, newest first.", RunListing, RunPage, _list)
APPROVE_RUN = Operation(
    "POST",
    "/cohort-runs/{run_id}/approve",
    "Apply a held run as it is.",
    NoInput,
    Affected,
    _approve,
    conflict=_NOT_HELD,
)
REJECT_RUN = Operation(
    "POST",
    "/cohort-runs/{run_id}/reject",
    "Drop a held run for good.",
    NoInput,
    Affected,
    _reject,
    conflict=_NOT_HELD,
)

OPERATIONS = (LIST_RUNS, APPROVE_RUN, REJECT_RUN)
