"""The status of everything, and pausing or resuming an app's delivery."""

from relay import __version__
from relay.http.admin.context import AdminContext
from relay.http.admin.operations import Call, NoInput, Operation
from relay.http.admin.schemas import Affected, AppStatusAnswer, SegmentsStatusAnswer, StatusAnswer
from relay.observability.metrics import SEGMENT_STATES
from relay.observability.status import AppStatus, SegmentsStatus


async def _show(context: AdminContext, _: Call[NoInput]) -> StatusAnswer:
    apps = await context.status.apps()
    segments = await context.status.segments()
    return StatusAnswer(
        version=__version__,
        ready=context.health.ready().is_ok,
        uptime_s=round(context.status.uptime_s, 3),
        apps={app: _app_answer(status) for app, status in apps.items()},
        segments={app: _segments_answer(status) for app, status in segments.items()},
    )


async def _pause(context: AdminContext, call: Call[NoInput]) -> Affected:
    return await _set_paused(context, call.path["app"], paused=True)


async def _resume(context: AdminContext, call: Call[NoInput]) -> Affected:
    return await _set_paused(context, call.path["app"], paused=False)


async def _set_paused(context: AdminContext, app: str, *, paused: bool) -> Affected:
    context.check(app)
    # The disk first: an answer of 200 must hold after a crash too.
    changed = await context.outbox.counters.set_paused(app, paused=paused)
    context.apps[app].delivery.breaker.set_paused(paused=paused)
    return Affected(affected=int(changed))


def _app_answer(status: AppStatus) -> AppStatusAnswer:
    counts = status.counts
    return AppStatusAnswer(
        accepted=counts.accepted,
        pending=counts.pending,
        in_flight=status.in_flight,
        delivered=counts.delivered,
        dead=counts.dead,
        discarded=counts.discarded,
        duplicate=counts.duplicate,
        filtered=counts.filtered,
        quarantined=counts.quarantined,
        lost=counts.lost,
        oldest_pending_age_s=status.oldest_age_s,
        delivery=status.delivery.value,
        last_error=status.last_error,
    )


def _segments_answer(status: SegmentsStatus) -> SegmentsStatusAnswer:
    counts = {state: status.overview.states.get(state, 0) for state in SEGMENT_STATES}
    return SegmentsStatusAnswer(
        **counts, last_run_at=status.overview.last_run_at, **status.downloads._asdict()
    )


SHOW_STATUS = Operation("GET", "/status", "How everything stands.", NoInput, StatusAnswer, _show)
PAUSE = Operation(
    "POST",
    "/apps/{app}/pause",
    "Stop an app's delivery; its events wait.",
    NoInput,
    Affected,
    _pause,
)
RESUME = Operation(
    "POST", "/apps/{app}/resume", "Go on with an app's delivery.", NoInput, Affected, _resume
)

OPERATIONS = (SHOW_STATUS, PAUSE, RESUME)
