"""The shapes of the admin API: what comes in is checked, what goes out is described."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

MAX_LIMIT = 1_000
DEFAULT_LIMIT = 50

MAX_ID = 2**63 - 1
"""The largest number a row can have."""

NUL = "\0"
"""Ends a text in SQLite's JSON: an id with it would be taken for another one."""


def _refuse_nul(text: str) -> str:
    if NUL in text:
        raise ValueError("holds the character U+0000, which no id may have")
    return text


def _take_whole(value: object) -> object:
    """Take 7.0 for 7, as JSON does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[int, Field(ge=0, le=MAX_ID), BeforeValidator(_take_whole)]
TextId = Annotated[
    str,
    AfterValidator(_refuse_nul),
    Field(json_schema_extra={"pattern": r"^[^\x00]*$"}),
]
Item = TypeVar("Item")

App = Annotated[str, Field(description="The app's name.")]
Instant = Annotated[int, Field(description="UTC epoch milliseconds.")]


class Question(BaseModel):
    """What a caller sends: nothing unknown in it."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """What relay sends."""

    model_config = ConfigDict(frozen=True)


class Page(Answer, Generic[Item]):
    """A page of a list; `next` is the `after` of the following one."""

    items: list[Item]
    next: int | None


def cut_page(found: Sequence[Item], limit: int) -> tuple[list[Item], bool]:
    """Return the items of a page and whether more follow, given one item too many if so."""
    return list(found[:limit]), len(found) > limit


class Listing(Question):
    """Which part of a list is wanted."""

    app: App | None = None
    reason: str | None = Field(None, description="Only with this reason.")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Items on one page.")
    after: int = Field(0, ge=0, le=MAX_ID, description="The `next` of the page before.")


class Choice(Question):
    """Which items an action concerns: these ids, or those of an app (with a reason)."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["ids"], "properties": {"ids": {"type": "array"}}},
                {"required": ["app"], "properties": {"app": {"type": "string"}}},
            ]
        }
    )

    ids: list[Id] | None = Field(None, max_length=100_000)
    app: App | None = None
    reason: str | None = None
    dry_run: bool = Field(default=False, description="Only count what would change.")

    @model_validator(mode="after")
    def _says_which(self) -> "Choice":
        if self.ids is None and self.app is None:
            raise ValueError('say which: {"ids":[…]} or {"app":"…","reason":"…"}')
        return self


class Affected(Answer):
    """How many items an action changed."""

    affected: int


class ErrorAnswer(Answer):
    """Why a request was not served."""

    error: str


class AppStatusAnswer(Answer):
    """How one app stands; `accepted` = `pending` + `delivered` + `dead` + `discarded`."""

    accepted: int
    pending: int
    in_flight: int = Field(description="Part of `pending`: in a sender's hands.")
    delivered: int
    dead: int
    discarded: int
    duplicate: int
    filtered: int
    quarantined: int = Field(description="Bodies ever put into quarantine.")
    lost: int = Field(0, description="Part of `discarded`: taken by damage to the disk.")
    oldest_pending_age_s: float | None
    delivery: Literal["running", "backing_off", "halted", "paused"]
    last_error: str | None


class SegmentsStatusAnswer(Answer):
    """How an app's segments and downloads stand."""

    active: int
    held: int = Field(description="With a run that waits for review.")
    stale: int = Field(description="Not in Amplitude's list any more; members are kept.")
    archived: int
    downloads_this_month: int
    downloads_left: int
    next_download_at: Instant | None = Field(description="UTC epoch ms; null: no cohort waits.")
    last_run_at: Instant | None = Field(description="UTC epoch ms; null: there was none.")
    last_error: str | None = Field(description="Why a download waits or was refused.")


class StatusAnswer(Answer):
    """How everything stands."""

    version: str
    ready: bool
    uptime_s: float
    apps: dict[str, AppStatusAnswer]
    segments: dict[str, SegmentsStatusAnswer]


class DeadLetterAnswer(Answer):
    """An event Amplitude will never take, and why."""

    id: int
    app: App
    insert_id: str
    event_type: str
    reason: str
    detail: str = Field(description="What Amplitude said.")
    attempts: int
    accepted_at: Instant
    first_tried_at: Instant | None
    died_at: Instant
    event: Any = Field(description="The event as it was sent; as text if nested absurdly deep.")


class DeadLetterPage(Page[DeadLetterAnswer]):
    """A page of dead letters; `next` is the `after` of the following one."""


class QuarantinedAnswer(Answer):
    """A body that was not understood, unchanged."""

    id: int
    app: App
    hook: Literal["events", "cohorts"]
    reason: str
    detail: str
    received_at: Instant
    body: str
    encoding: Literal["utf-8", "base64"]


class QuarantinePage(Page[QuarantinedAnswer]):
    """A page of quarantined bodies; `next` is the `after` of the following one."""
