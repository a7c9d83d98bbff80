"""The shapes of the admin API that concern segments, runs, users and the directory."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StringConstraints, field_validator

from relay.http.admin.schemas import (
    DEFAULT_LIMIT,
    MAX_ID,
    MAX_LIMIT,
    Affected,
    Answer,
    App,
    Id,
    Instant,
    Page,
    Question,
    TextId,
)

MAX_SUBSCRIPTIONS = 1_000
"""Of one user: more than anybody has devices."""

Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Items on one page.")]
SegmentState = Literal["active", "held", "stale", "archived"]
RunState = Literal["running", "applied", "unchanged", "held", "rejected", "failed"]
Group = Literal[
    "restricted_ids",
    "unknown_users",
    "matched_users",
    "matched_without_subscription",
    "only_unsubscribed",
    "subscribed_users",
]


class SegmentListing(Question):
    """Which segments are wanted."""

    app: App | None = None
    state: SegmentState | None = None
    limit: Limit = DEFAULT_LIMIT
    after: int = Field(0, ge=0, le=MAX_ID, description="The `next` of the page before.")


class ChangeListing(Question):
    """Which changes are wanted."""

    after: int = Field(0, ge=0, le=MAX_ID, description="The `seq` to follow from.")
    limit: Limit = DEFAULT_LIMIT


class RunListing(Question):
    """Which runs are wanted."""

    app: App | None = None
    cohort_id: TextId | None = None
    state: RunState | None = None
    limit: Limit = DEFAULT_LIMIT
    after: int | None = Field(None, ge=0, le=MAX_ID, description="The `next` of the page before.")


class GroupChoice(Question):
    """Which ids behind an explanation are wanted, instead of its numbers."""

    group: Group | None = Field(None, alias="list", description="The number they stand behind.")


class RollbackOrder(Question):
    """How far a segment is to go back."""

    revision: Id | None = Field(None, description="Undo every run after it; absent: the last run.")


class ToldSubscription(Question):
    """A subscription as an app reports it."""

    id: Annotated[TextId, StringConstraints(min_length=1, max_length=256)]
    type: Annotated[TextId, StringConstraints(min_length=1, max_length=64)]
    subscribed: StrictBool


class ToldUser(Question):
    """All subscriptions of a user, as an app reports them."""

    subscriptions: list[ToldSubscription] = Field(max_length=MAX_SUBSCRIPTIONS)

    @field_validator("subscriptions")
    @classmethod
    def _are_distinct(cls, told: list[ToldSubscription]) -> list[ToldSubscription]:
        if len({subscription.id for subscription in told}) < len(told):
            raise ValueError("two subscriptions have the same id")
        return told


class ImportOrder(Question):
    """What a file of subscriptions is to the directory."""

    replace: bool = Field(default=False, description="The file is the whole truth.")


class SegmentAnswer(Answer):
    """A segment and its figures."""

    app: App
    cohort_id: str
    name: str
    state: SegmentState
    cohort_size: int = Field(description="Entries of the list that is applied.")
    matched_users: int
    subscribed_count: int = Field(description="Subscribed subscriptions of matched users.")
    revision: int
    computed_at: Instant | None = Field(description="Amplitude's time of it, UTC epoch ms.")
    applied_at: Instant | None


class SegmentPage(Page[SegmentAnswer]):
    """A page of segments; `next` is the `after` of the following one."""

    next: Id | None


class ExplainAnswer(Answer):
    """Why a cohort's size and its segment's count differ, in numbers that add up.

    `cohort_size` = `empty_ids` + `restricted_ids` + `unknown_users` + `matched_users`;
    `matched_users` = `matched_without_subscription` + `only_unsubscribed` + `subscribed_users`.
    """

    cohort_size: int
    empty_ids: int
    restricted_ids: int
    unknown_users: int
    matched_users: int
    matched_without_subscription: int
    only_unsubscribed: int
    subscribed_users: int
    subscribed_count: int


class RunAnswer(Answer):
    """An attempt to bring a segment up to date, and its result."""

    run_id: int
    app: App
    cohort_id: str
    source: Literal["poll", "webhook", "directory", "rollback"]
    state: RunState
    started_at: Instant
    finished_at: Instant | None
    members: int = Field(description="Distinct user ids in the file.")
    empty_ids: int
    unknown_users: int
    added: int
    removed: int
    reason: str | None


class RunPage(Page[RunAnswer]):
    """A page of runs, newest first; `next` is the `after` of the following one."""

    next: Id | None


class UndoableRun(Answer):
    """A run that can be undone, together with every later one."""

    run_id: int
    source: Literal["poll", "webhook", "rollback"]
    finished_at: Instant
    added: int
    removed: int
    leads_back_to: int | None = Field(
        description="The `revision` to roll back to; null where the run changed no member."
    )


class SegmentDetail(SegmentAnswer):
    """Everything about one segment."""

    explanation: ExplainAnswer
    next_download_at: Instant | None = Field(description="UTC epoch ms; null: none is planned.")
    waits_for: str | None = Field(description="Why that is not now.")
    last_run: RunAnswer | None
    undoable: list[UndoableRun] = Field(description="Newest first.")


class MemberLine(Answer):
    """A member of a segment."""

    external_id: str
    entered_at: Instant


class IdLine(Answer):
    """A user behind a number of an explanation."""

    external_id: str
    subscriptions: int
    subscribed: int


class ChangeAnswer(Answer):
    """What happened to one user in a segment."""

    seq: int
    external_id: str
    change: Literal["entered", "left"]
    run_id: int
    at: Instant


class ChangePage(Answer):
    """A page of changes, oldest first; `next` is the `after` to follow from, also at the end."""

    items: list[ChangeAnswer]
    next: int


class SubscriptionAnswer(Answer):
    """A subscription of a user."""

    id: str
    type: str
    subscribed: bool


class MembershipAnswer(Answer):
    """A segment of which a user is a member."""

    cohort_id: str
    name: str
    entered_at: Instant


class CohortOfUserAnswer(Answer):
    """What one cohort says of a user, and whether that makes a member of the segment."""

    cohort_id: str
    name: str
    is_listed: bool
    is_member: bool
    reason: str | None = Field(description="Why the user is no member.")


class UserAnswer(Answer):
    """What is known of a user."""

    app: App
    external_id: str
    known_at: Instant | None = Field(description="UTC epoch ms; null: OneSignal has no such user.")
    subscriptions: list[SubscriptionAnswer]
    segments: list[MembershipAnswer]
    cohorts: list[CohortOfUserAnswer]


class SyncAnswer(Answer):
    """How the synchronisation with OneSignal stands."""

    is_running: bool
    last_error: str | None
    next_at: Instant | None


class DirectoryAnswer(Answer):
    """How large an app's directory is, and how old."""

    app: App
    users: int
    subscriptions: int
    subscribed: int
    exported_at: Instant | None = Field(description="When the last whole export was asked for.")
    synced_at: Instant | None = Field(description="When it was applied.")
    sync: SyncAnswer | None = Field(description="Null where no daemon runs.")


class ImportAnswer(Affected):
    """What a file brought; `affected` are users."""

    rows: int
    users: int
    anonymous: int = Field(description="Subscriptions without a user.")
    broken_rows: int
