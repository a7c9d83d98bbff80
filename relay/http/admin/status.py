"""How everything stands, and an app's delivery paused or resumed."""

from pydantic import BaseModel

from relay import __version__
from relay.http.admin.context import AdminContext
from relay.http.admin.operations import AnyOperation, Call, NoInput, Operation
from relay.http.admin.schemas import Affected, AppStatusAnswer, SegmentsStatusAnswer, StatusAnswer
from relay.observability.metrics import SEGMENT_STATES
from relay.observability.status import AppStatus, SegmentsStatus


class Apps:
    """The operations on whole apps."""

    def __init__(self, parts: AdminContext) -> None:
        self._parts = parts
        self._began_s = parts.clock.monotonic_s()

    def operations(self) -> list[AnyOperation]:
        """Return them."""
        return [
            Operation(
                "GET", "/status", "How everything stands.", NoInput, StatusAnswer, self.status
            ),
            Operation(
                "POST",
                "/apps/{app}/pause",
                "Stop an app's delivery; its events wait.",
                NoInput,
                Affected,
                self.pause,
            ),
            Operation(
                "POST",
                "/apps/{app}/resume",
                "Go on with an app's delivery.",
                NoInput,
                Affected,
                self.resume,
            ),
        ]

    async def status(self, _: Call[BaseModel]) -> StatusAnswer:
        """Return the status of the process and of every app."""
        apps = await self._parts.status.apps()
        segments = await self._parts.status.segments()
        return StatusAnswer(
            version=__version__,
            ready=self._parts.health.ready().is_ok,
            uptime_s=round(self._parts.clock.monotonic_s() - self._began_s, 3),
            apps={app: _answer(status) for app, status in apps.items()},
            segments={app: _answer_segments(status) for app, status in segments.items()},
        )

    async def pause(self, call: Call[BaseModel]) -> Affected:
        """Pause an app, now and after a restart."""
        return await self._set_paused(call.path["app"], paused=True)

    async def resume(self, call: Call[BaseModel]) -> Affected:
        """Resume an app; a halted one is tried at once."""
        return await self._set_paused(call.path["app"], paused=False)

    async def _set_paused(self, app: str, *, paused: bool) -> Affected:
        delivery = self._parts.delivery(app)
        changed = await self._parts.outbox.ledger.set_paused(app, paused=paused)
        delivery.gate.set_paused(paused=paused)
        return Affected(affected=int(changed))


def _answer(status: AppStatus) -> AppStatusAnswer:
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


def _answer_segments(status: SegmentsStatus) -> SegmentsStatusAnswer:
    counts = {state: status.overview.states.get(state, 0) for state in SEGMENT_STATES}
    return SegmentsStatusAnswer(
        **counts, last_run_at=status.overview.last_run_at, **status.downloads._asdict()
    )
