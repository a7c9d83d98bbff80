"""What the segment steps share: move Amplitude's cohorts, and compare relay's segments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.cli.admin_api import path_of
from relay.demo.cohort_plan import CohortPlan
from relay.demo.config import App
from relay.demo.display import Figures
from relay.demo.environment import Environment
from relay.demo.evidence import Comparison, Explained, SegmentNotes
from relay.demo.expected import KnownUsers, Members, explanation_of, known_users, members_of
from relay.demo.segment_recorder import NOBODY
from relay.http.admin.segment_schemas import ExplainAnswer
from relay.sandbox.cohort_project import CohortExport, StandInCohort
from relay.sandbox.cohorts import CohortsStandIn
from relay.segments.views import RunRow

WITHIN_S: Final = 10.0
"""For anything a segment step waits for; a second is usual."""


@dataclass(frozen=True, slots=True)
class SegmentProbe:
    """The segments of the first app, from both ends.

    Attributes:
        env: The environment.
    """

    env: Environment

    @property
    def app(self) -> App:
        """The app whose segments these are."""
        return self.env.plan.apps[0]

    @property
    def plan(self) -> CohortPlan:
        """Users and cohorts."""
        return self.env.plan.cohorts

    @property
    def notes(self) -> SegmentNotes:
        """What was noted so far."""
        return self.env.notes.segments

    @property
    def amplitude(self) -> CohortsStandIn:
        """Amplitude's cohorts."""
        return self.env.stand_ins.sandbox.cohorts

    @property
    def polled(self) -> StandInCohort:
        """The cohort that is downloaded, as Amplitude has it now."""
        return self.cohort(self.plan.polled.id)

    @property
    def exports(self) -> Sequence[CohortExport]:
        """Every export relay asked for; each counts against the month."""
        return list(self.amplitude.project(self.app.api_key).exports.values())

    @property
    def known(self) -> KnownUsers:
        """The users OneSignal knows."""
        rows = self.env.stand_ins.sandbox.exports.subscribers(self.app.onesignal_id)
        return known_users(rows() if callable(rows) else rows)

    @property
    def last_run(self) -> int:
        """Id of the newest run, 0 if there is none."""
        runs = self.env.segments.latest.runs
        return runs[-1].run_id if runs else 0

    def cohort(self, cohort_id: str) -> StandInCohort:
        """Return a cohort as Amplitude has it now."""
        return self.amplitude.project(self.app.api_key).cohorts[cohort_id]

    def put(self, cohort: StandInCohort) -> StandInCohort:
        """Add a cohort at Amplitude."""
        return self.amplitude.put(cohort, api_key=self.app.api_key)

    def compute(self, cohort_id: str, move: str) -> StandInCohort:
        """Let Amplitude compute a cohort anew, changed by a planned move."""
        moving = self.plan.moves[move]
        return self.amplitude.change(
            cohort_id, add=moving.entering, remove=moving.leaving, api_key=self.app.api_key
        )

    def expect(self, cohort: StandInCohort) -> None:
        """Note what the next revision of a segment must be.

        Call it before relay can know of the cohort: the recorder may see the revision at once.
        """
        self.expect_members(cohort.id, members_of(cohort, self.known))

    def expect_members(self, cohort_id: str, members: Members) -> None:
        """Note what members a segment may have next."""
        self.notes.revisions.setdefault(cohort_id, [NOBODY]).append(members)

    def state(self, cohort_id: str) -> str:
        """Return a segment's state at the last reading, empty if there is no segment."""
        segment = self.env.segments.latest.segments.get(cohort_id)
        return "" if segment is None else segment.state

    def runs(self, state: str, after: int = 0) -> list[RunRow]:
        """Return the runs in a state after a run, as of the last reading."""
        every = self.env.segments.latest.runs
        return [run for run in every if run.state == state and run.run_id > after]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return once a condition holds.

        Raises:
            StepTimeout: If it does not hold within `WITHIN_S`.
        """
        await self.env.status.until(holds, what, within_s=WITHIN_S)

    async def until_state(self, cohort_id: str, state: str) -> None:
        """Return once a segment has a state.

        Raises:
            StepTimeout: If it does not get it.
        """
        await self.until(lambda: self.state(cohort_id) == state, f"{cohort_id} is {state}")

    async def until_revision(self, cohort_id: str) -> None:
        """Return once a segment has as many revisions as were expected, right or wrong.

        Raises:
            StepTimeout: If it does not get them.
        """
        wanted = len(self.notes.revisions[cohort_id]) - 1

        def has_come() -> bool:
            segment = self.env.segments.latest.segments.get(cohort_id)
            return segment is not None and segment.revision >= wanted

        await self.until(has_come, f"revision {wanted} of {cohort_id}")

    async def compare(self, name: str, cohort_id: str) -> None:
        """Compare a segment with the revision it must have now.

        Args:
            name: What has happened.
            cohort_id: The segment's cohort.

        Raises:
            StepTimeout: If the views cannot be read.
        """
        seen = (await self.env.segments.fresh()).members.get(cohort_id, NOBODY)
        expected = self.notes.revisions[cohort_id][-1]
        self.notes.comparisons.append(Comparison(name, cohort_id, expected, seen))

    async def explain(self, name: str, cohort: StandInCohort) -> ExplainAnswer:
        """Return relay's explanation of a segment, and note it with the demo's own.

        Args:
            name: What has happened.
            cohort: As relay has applied it.
        """
        path = path_of("segments", self.app.name, cohort.id, "explain")
        given = await self.env.api.get(path, ExplainAnswer)
        expected = explanation_of(cohort, self.known)
        self.notes.explained.append(Explained(name, given.model_dump(), expected))
        return given


def segment_figures(env: Environment) -> list[Figures]:
    """Return what the display shows of every segment."""
    exports = SegmentProbe(env).exports
    return [
        Figures(
            "segment",
            segment.name,
            {
                "cohort size": f"{segment.cohort_size}",
                "members": f"{segment.matched_users}",
                "subscribed count": f"{segment.subscribed_count}",
                "revision": f"{segment.revision}",
                "downloads": f"{sum(each.cohort.id == segment.cohort_id for each in exports)}",
            },
            "state",
            segment.state,
        )
        for segment in env.segments.latest.segments.values()
    ]
