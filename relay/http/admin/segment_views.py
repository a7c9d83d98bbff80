"""Turns rows of the segment table into answers of the API."""

from collections.abc import Sequence
from itertools import pairwise

from relay.cohorts.budget import Due
from relay.http.admin.schemas import MAX_ID, cut_page
from relay.http.admin.segment_schemas import (
    ChangeAnswer,
    ChangePage,
    CohortOfUserAnswer,
    DirectoryAnswer,
    ExplainAnswer,
    MembershipAnswer,
    RunAnswer,
    RunPage,
    SegmentAnswer,
    SegmentDetail,
    SegmentPage,
    SubscriptionAnswer,
    SyncAnswer,
    UndoableRun,
    UserAnswer,
)
from relay.segments.directory import DirectoryCounts
from relay.segments.read_model import Change, Explanation, KnownUser, Run, Segment, Undoable
from relay.segments.store import Segments


def answer_segment(segment: Segment) -> SegmentAnswer:
    """Return a segment as lists show it."""
    return SegmentAnswer.model_validate(segment._asdict())


def answer_explanation(explanation: Explanation) -> ExplainAnswer:
    """Return why a cohort's size and its segment's count differ."""
    return ExplainAnswer(**explanation._asdict())


def answer_run(run: Run) -> RunAnswer:
    """Return a run as lists show it."""
    return RunAnswer.model_validate(run._asdict())


async def answer_detail(segments: Segments, segment: Segment, due: Due | None) -> SegmentDetail:
    """Return everything about one segment.

    Args:
        segments: The segment table.
        segment: Which one.
        due: When its cohort is downloaded, `None` if no download waits or no daemon runs.
    """
    runs = await segments.read_model.runs(
        segment.app, segment.cohort_id, None, before=MAX_ID, limit=1
    )
    undoable = await segments.read_model.undoable(segment.no)
    return SegmentDetail(
        **answer_segment(segment).model_dump(),
        explanation=answer_explanation(await segments.read_model.explain(segment.no)),
        next_download_at=due.due_at if due else None,
        waits_for=due.reason if due else None,
        last_run=answer_run(runs[0]) if runs else None,
        undoable=answer_undoable(undoable),
    )


def answer_undoable(runs: Sequence[Undoable]) -> list[UndoableRun]:
    """Return runs that can be undone, newest first, each with the revision that does it.

    The revision below the run's own undoes it, unless the run before it made the same revision:
    then no member differs between the two, and only the newest can be undone alone.
    """
    made = [run.revision for run in runs]
    is_own = [newer > older for newer, older in pairwise((*made, 0))]
    return [
        UndoableRun.model_validate(
            {**run._asdict(), "leads_back_to": run.revision - 1 if own else None}
        )
        for run, own in zip(runs, is_own, strict=True)
    ]


def answer_user(app: str, external_id: str, user: KnownUser) -> UserAnswer | None:
    """Return what is known of a user, None if the user is known nowhere."""
    listed = any(cohort.is_listed for cohort in user.cohorts)
    if user.known_at is None and not listed:
        return None
    return UserAnswer(
        app=app,
        external_id=external_id,
        known_at=user.known_at,
        subscriptions=[
            SubscriptionAnswer(id=id_, type=type_, subscribed=is_subscribed)
            for id_, type_, is_subscribed in user.subscriptions
        ],
        segments=[
            MembershipAnswer(
                cohort_id=cohort.cohort_id, name=cohort.name, entered_at=cohort.entered_at
            )
            for cohort in user.cohorts
            if cohort.is_member
        ],
        cohorts=[
            CohortOfUserAnswer(
                cohort_id=cohort.cohort_id,
                name=cohort.name,
                is_listed=bool(cohort.is_listed),
                is_member=cohort.is_member,
                reason=cohort.reason,
            )
            for cohort in user.cohorts
        ],
    )


def answer_directory(
    app: str, counts: DirectoryCounts, sync: SyncAnswer | None = None
) -> DirectoryAnswer:
    """Return how large an app's directory is, and how old."""
    return DirectoryAnswer(
        app=app,
        users=counts.users,
        subscriptions=counts.subscriptions,
        subscribed=counts.subscribed,
        exported_at=counts.exported_at or None,
        synced_at=counts.synced_at,
        sync=sync,
    )


def segment_page(found: Sequence[Segment], limit: int) -> SegmentPage:
    """Return a page of segments, given one too many if there are more."""
    shown, following = cut_page(found, limit)
    return SegmentPage(
        items=[answer_segment(segment) for segment in shown],
        next=shown[-1].no if following else None,
    )


def run_page(found: Sequence[Run], limit: int) -> RunPage:
    """Return a page of runs, given one too many if there are more."""
    shown, following = cut_page(found, limit)
    return RunPage(
        items=[answer_run(run) for run in shown],
        next=shown[-1].run_id if following else None,
    )


def answer_changes(found: Sequence[Change], after: int) -> ChangePage:
    """Return a page of changes after one of them; `next` never falls back."""
    return ChangePage(
        items=[ChangeAnswer.model_validate(change._asdict()) for change in found],
        next=found[-1].seq if found else after,
    )
