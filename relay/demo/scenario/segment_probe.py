"""What the segment steps share: move Amplitude's cohorts, and compare relay's segments."""

from collections.abc import Callable
from typing import Final

from relay.demo.environment import Environment
from relay.demo.evidence import Comparison, Explained
from relay.demo.expected import (
    NO_MEMBERS,
    KnownUsers,
    Members,
    explanation_of,
    known_users,
    members_of,
)
from relay.http.admin.segment_schemas import ExplainAnswer, GroupChoice
from relay.http.admin.segments import EXPLAIN_SEGMENT
from relay.sandbox.cohorts.project import CohortExport, StandInCohort
from relay.segments.views import RunRow

WITHIN_S: Final = 10.0
"""For anything a segment step waits for; a second is usual."""


class SegmentProbe:
    """The segments of the first app: its cohorts at Amplitude, and what the views show of them."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.app = env.plan.apps[0]
        self.plan = env.plan.cohorts
        self.notes = env.notes.segments
        self.amplitude = env.stand_ins.sandbox.cohorts
        self.project = self.amplitude.project(self.app.api_key)

    @property
    def exports(self) -> list[CohortExport]:
        """Every export relay asked for; each counts against the month."""
        return list(self.project.exports.values())

    @property
    def known(self) -> KnownUsers:
        """The users OneSignal knows."""
        rows = self.env.stand_ins.sandbox.exports.subscribers(self.app.onesignal_id)
        return known_users(rows() if callable(rows) else rows)

    def put(self, cohort: StandInCohort) -> StandInCohort:
        """Add a cohort at Amplitude."""
        return self.amplitude.put(cohort, api_key=self.app.api_key)

    def recompute(self, cohort_id: str, move: str) -> StandInCohort:
        """Let Amplitude recompute a cohort, changed by a planned move."""
        moving = self.plan.moves[move]
        return self.amplitude.change(
            cohort_id, add=moving.entering, remove=moving.leaving, api_key=self.app.api_key
        )

    def expect(self, cohort_id: str, members: Members) -> None:
        """Note the members that a segment must have at its next revision."""
        self.notes.revisions.setdefault(cohort_id, [NO_MEMBERS]).append(members)

    def expect_cohort(self, cohort: StandInCohort) -> None:
        """Note that the next revision of a segment must be this cohort."""
        self.expect(cohort.id, members_of(cohort, self.known))

    def state(self, cohort_id: str) -> str:
        """Return a segment's state at the last reading, empty if there is no segment."""
        segment = self.env.segments.latest.segments.get(cohort_id)
        return "" if segment is None else segment.state

    def runs(self, state: str) -> list[RunRow]:
        """Return the runs in a state at the last reading, oldest first."""
        return [run for run in self.env.segments.latest.runs if run.state == state]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return once a condition holds.

        Raises:
            StepTimeout: If it does not hold within `WITHIN_S`.
        """
        await self.env.status.until(holds, what, within_s=WITHIN_S)

    async def until_state(self, cohort_id: str, state: str) -> None:
        """Return once a segment has a state; fail as `until` does."""
        await self.until(lambda: self.state(cohort_id) == state, f"{cohort_id} is {state}")

    async def until_revision(self, cohort_id: str, step: str) -> None:
        """Wait for as many revisions as were expected, right or wrong, and compare the last.

        Fails as `until` does.
        """
        wanted = len(self.notes.revisions[cohort_id]) - 1

        def has_come() -> bool:
            segment = self.env.segments.latest.segments.get(cohort_id)
            return segment is not None and segment.revision >= wanted

        await self.until(has_come, f"revision {wanted} of {cohort_id}")
        await self.compare(cohort_id, step)

    async def compare(self, cohort_id: str, step: str) -> None:
        """Note a segment's members beside those that it must have now.

        Raises:
            StepTimeout: If the views cannot be read.
        """
        seen = (await self.env.segments.fresh()).members.get(cohort_id, NO_MEMBERS)
        expected = self.notes.revisions[cohort_id][-1]
        self.notes.comparisons.append(Comparison(step, cohort_id, expected, seen))

    async def explain(self, cohort: StandInCohort, step: str) -> ExplainAnswer:
        """Return relay's explanation of a cohort it has applied, and note it with our own."""
        given = await self.env.api.call(
            EXPLAIN_SEGMENT, GroupChoice(), app=self.app.name, cohort_id=cohort.id
        )
        expected = explanation_of(cohort, self.known)
        self.notes.explained.append(Explained(step, expected, given.model_dump()))
        return given
