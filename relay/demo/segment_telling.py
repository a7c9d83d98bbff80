"""What all cohort acts share: the reader, the truth, and comparing one with the other."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.demo.audience import Audience, Move
from relay.demo.cast import App
from relay.demo.reader import NOBODY, Reader, RunRow, SegmentRow
from relay.demo.segment_notes import Explained, SegmentNotes, Step
from relay.demo.stage import Stage
from relay.demo.telling import Telling
from relay.demo.truth import Known, Members, explanation_of, known_users, members_of
from relay.demo.view import Figures
from relay.http.admin.segment_schemas import ExplainAnswer, GroupChoice
from relay.http.admin.segments import EXPLAIN_SEGMENT
from relay.sandbox.cohorts.project import CohortExport, StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn

WITHIN_S = 10.0
"""For anything a cohort act waits for; a second is usual."""


@dataclass(frozen=True, slots=True)
class SegmentTelling:
    """The cohort part of a story being told: all of it about the first app.

    Attributes:
        telling: The story.
        reader: Another program that reads the segments.
    """

    telling: Telling
    reader: Reader

    @property
    def stage(self) -> Stage:
        """Where."""
        return self.telling.stage

    @property
    def noted(self) -> SegmentNotes:
        """What was noted so far."""
        return self.telling.measured.segments

    @property
    def app(self) -> App:
        """Whose segments."""
        return self.stage.apps[0]

    @property
    def audience(self) -> Audience:
        """Everybody the acts are about."""
        return self.stage.script.audience

    @property
    def amplitude(self) -> CohortsStandIn:
        """Amplitude's cohorts."""
        return self.stage.sandbox.cohorts

    @property
    def polled(self) -> StandInCohort:
        """The cohort that is downloaded, as Amplitude has it now."""
        return self.cohort(self.audience.polled.id)

    def cohort(self, cohort_id: str) -> StandInCohort:
        """Return a cohort as Amplitude has it now."""
        return self.amplitude.project(self.app.api_key).cohorts[cohort_id]

    @property
    def exports(self) -> list[CohortExport]:
        """Every export relay asked for: each of them counts against the month."""
        return list(self.amplitude.project(self.app.api_key).exports.values())

    @property
    def known(self) -> Known:
        """Whom OneSignal knows."""
        rows = self.stage.sandbox.exports.subscribers(self.app.onesignal_id)
        return known_users(rows() if callable(rows) else rows)

    def expect(self, cohort: StandInCohort) -> None:
        """Note what the next revision of a segment will be, before relay can know of it."""
        self.allow(cohort.id, members_of(cohort, self.known))

    def allow(self, cohort_id: str, members: Members) -> None:
        """Note that a segment may come to have these members next."""
        self.noted.revisions.setdefault(cohort_id, [NOBODY]).append(members)

    def put(self, cohort: StandInCohort) -> StandInCohort:
        """Take a cohort in at Amplitude."""
        return self.amplitude.put(cohort, api_key=self.app.api_key)

    def compute(self, cohort_id: str, move: Move) -> StandInCohort:
        """Have Amplitude compute a cohort anew, with whoever moves."""
        return self.amplitude.change(
            cohort_id, add=move.entering, remove=move.leaving, api_key=self.app.api_key
        )

    def segment(self, cohort_id: str) -> SegmentRow | None:
        """Return a segment as it was read last, None if there is none."""
        return self.reader.latest.segments.get(cohort_id)

    def runs(self, state: str, after: int = 0) -> list[RunRow]:
        """Return the runs of a state after one of them, as they were read last."""
        every = self.reader.latest.runs
        return [run for run in every if run.state == state and run.run_id > after]

    @property
    def last_run(self) -> int:
        """Id of the newest run, 0 if there is none."""
        return self.reader.latest.runs[-1].run_id if self.reader.latest.runs else 0

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Return once `holds` does.

        Raises:
            Stuck: If it never does.
        """
        await self.stage.watch.until(holds, what, within_s=WITHIN_S)

    async def until_revision(self, cohort_id: str) -> None:
        """Return once a segment has as many revisions as were expected, whatever is in them.

        Raises:
            Stuck: If it never has.
        """
        wanted = len(self.noted.revisions[cohort_id]) - 1

        def has_come() -> bool:
            segment = self.segment(cohort_id)
            return segment is not None and segment.revision >= wanted

        await self.until(has_come, f"revision {wanted} of {cohort_id}")

    async def compare(self, name: str, cohort_id: str) -> None:
        """Hold a segment against the revision it must have now."""
        seen = (await self.reader.fresh()).members.get(cohort_id, NOBODY)
        self.noted.steps.append(Step(name, cohort_id, self.noted.revisions[cohort_id][-1], seen))
        self.stage.view.refresh()

    async def explain(self, name: str, cohort: StandInCohort) -> ExplainAnswer:
        """Have relay explain a segment, and note what the answer must be."""
        told = await self.stage.api.call(
            EXPLAIN_SEGMENT, GroupChoice(), app=self.app.name, cohort_id=cohort.id
        )
        self.noted.explained.append(
            Explained(name, told.model_dump(), explanation_of(cohort, self.known))
        )
        return told

    def figures(self) -> list[Figures]:
        """Return what the view shows of every segment."""
        return [
            Figures(
                "segment",
                segment.name,
                {
                    "cohort size": f"{segment.cohort_size}",
                    "members": f"{segment.matched_users}",
                    "subscribed count": f"{segment.subscribed_count}",
                    "revision": f"{segment.revision}",
                    "downloads": f"{sum(e.cohort.id == segment.cohort_id for e in self.exports)}",
                },
                "state",
                segment.state,
            )
            for segment in self.reader.latest.segments.values()
        ]
