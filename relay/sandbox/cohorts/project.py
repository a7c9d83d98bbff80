"""One Amplitude project: its cohorts, its exports, and what counts against its limits."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from relay.sandbox.cohorts.conditions import CohortLimits, Job
from relay.sandbox.cohorts.files import FileShape, Members, iterate
from relay.sandbox.common.replies import JsonObject

_LISTED: Final[JsonObject] = {
    "appId": 187_520, "chart_id": None, "edit_id": None, "finished": True, "hidden": False,
    "is_official_content": False, "is_predictive": False, "last_viewed": None,
    "location_id": None, "metadata": None, "owners": ["analyst@example.com"],
    "popularity": None, "shortcut_ids": [], "type": "redshift", "view_count": 0, "viewers": [],
    "definition": {
        "version": 3, "countGroup": {"name": "User", "is_computed": False},
        "cohortType": "UNIQUES", "andClauses": [], "referenceFrameTimeParams": {},
    },
}  # fmt: skip
"""What all cohorts have in common in the list."""

_PARALLEL_FOR_MS: Final = 60_000


class StandInCohort(BaseModel):
    """One cohort as Amplitude holds it; replace it to change it.

    Attributes:
        id: Amplitude's id.
        name: Not unique.
        user_ids: The members with a user id: a list, a range, or a factory that yields
            them anew at each call.
        empty_ids: Number of members without one.
        size: What the list says; None = the number of members.
        last_computed_s: When the members were computed, in epoch seconds; None = when it
            is put, but always later than before.
        last_mod_s: When the definition was changed; None = when it is first put.
        archived: Whether it is archived.
        published: Whether the list shows it and it can be exported.
        never_completes: Whether its exports run for ever.
        shape: Layout of its file.
        description: Any text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    name: str = "Cohort"
    user_ids: Members = ()
    empty_ids: NonNegativeInt = 0
    size: NonNegativeInt | None = None
    last_computed_s: int | None = None
    last_mod_s: int | None = None
    archived: bool = False
    published: bool = True
    never_completes: bool = False
    shape: FileShape = FileShape()
    description: str | None = None

    def member_count(self) -> int:
        """Return the number of members, including those without an id."""
        ids = self.user_ids
        known = sum(1 for _ in ids()) if callable(ids) else len(ids)
        return known + self.empty_ids

    def listed(self, *, with_sync: bool) -> JsonObject:
        """Return the object that the list shows."""
        sync: JsonObject = {"syncMetadata": []} if with_sync else {}
        return {
            **_LISTED,
            "archived": self.archived,
            "createdAt": self.last_mod_s,
            "description": self.description,
            "id": self.id,
            "lastComputed": self.last_computed_s,
            "lastMod": self.last_mod_s,
            "name": self.name,
            "published": self.published,
            "size": self.size,
            **sync,
        }


@dataclass(slots=True)
class CohortExport:
    """One requested file: a snapshot of its cohort.

    Attributes:
        request_id: Its id.
        cohort: The cohort as it was.
        requested_at: When, in UTC epoch milliseconds.
        polls: Number of status requests so far.
    """

    request_id: str
    cohort: StandInCohort
    requested_at: int
    polls: int = 0

    def is_done(self, job: Job, now_ms: int) -> bool:
        """Tell whether the file is there."""
        if job.never_completes or self.cohort.never_completes:
            return False
        age_ms = now_ms - self.requested_at
        return self.polls >= job.polls and age_ms >= job.seconds * 1000

    def as_json(self) -> JsonObject:
        """Return what answers call it by."""
        return {"request_id": self.request_id, "cohort_id": self.cohort.id}


class Meter:
    """Counts what the limits of one project are about.

    Attributes:
        unanswered: Requests that are not answered yet.
        most_unanswered: The most there ever were at a time, refused ones included.
    """

    def __init__(self) -> None:
        self._months: Counter[str] = Counter()
        self._recent: deque[int] = deque()
        self.unanswered = 0
        self.most_unanswered = 0

    def enter(self) -> None:
        """Count a request that came."""
        self.unanswered += 1
        self.most_unanswered = max(self.most_unanswered, self.unanswered)

    def leave(self) -> None:
        """Count a request that was answered, or broke off."""
        self.unanswered -= 1

    def count(self, now_ms: int) -> None:
        """Count an export."""
        self._months[_month(now_ms)] += 1
        self._recent.append(now_ms)

    def in_month(self, now_ms: int) -> int:
        """Return the exports of this month."""
        return self._months[_month(now_ms)]

    def spend(self, exports: int, now_ms: int) -> None:
        """Count exports as if others had asked for them this month."""
        self._months[_month(now_ms)] += exports

    def exceeded(self, limits: CohortLimits, unfinished: int, now_ms: int) -> str | None:
        """Return the limit one more export would exceed, in words; None if it would not."""
        while self._recent and self._recent[0] <= now_ms - limits.window_s * 1000:
            self._recent.popleft()
        if self.in_month(now_ms) >= limits.per_month:
            return f"Monthly limit of {limits.per_month} cohort downloads exceeded"
        if len(self._recent) >= limits.per_window:
            return f"Limit of {limits.per_window} requests in {limits.window_s:g} s exceeded"
        if unfinished >= limits.parallel:
            return f"Limit of {limits.parallel} parallel cohort downloads exceeded"
        return None


def month_end(now_ms: int) -> str:
    """Return when the month's count starts again, as Amplitude writes it."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    years, month = divmod(now.month, 12)
    return f"{now.year + years:04d}-{month + 1:02d}-01T00:00:00Z"


def _month(now_ms: int) -> str:
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m}"


@dataclass(slots=True)
class Project:
    """One project.

    Attributes:
        api_key: User of its Basic authentication.
        secret_key: Password of it.
        cohorts: By id.
        exports: By request id.
        meter: What counts against its limits.
    """

    api_key: str
    secret_key: str
    cohorts: dict[str, StandInCohort] = field(default_factory=dict)
    exports: dict[str, CohortExport] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)

    def put(self, cohort: StandInCohort, now_ms: int) -> StandInCohort:
        """Add a cohort, or replace the one of the same id, and return it complete."""
        now_s, before = now_ms // 1000, self.cohorts.get(cohort.id)
        changes: JsonObject = {}
        if cohort.size is None:
            changes["size"] = cohort.member_count()
        if cohort.last_computed_s is None:
            # The list has whole seconds: a second computation within one must differ too.
            past_s = -1 if before is None else before.last_computed_s or 0
            changes["last_computed_s"] = max(now_s, past_s + 1)
        if cohort.last_mod_s is None:
            changes["last_mod_s"] = now_s if before is None else before.last_mod_s
        self.cohorts[cohort.id] = cohort.model_copy(update=changes)
        return self.cohorts[cohort.id]

    def change(
        self, cohort_id: str, add: Iterable[str], remove: Iterable[str], now_ms: int
    ) -> StandInCohort:
        """Compute a cohort again with other members, the new ones at the end.

        Raises:
            KeyError: If there is no such cohort.
        """
        cohort, gone = self.cohorts[cohort_id], frozenset(remove)
        # A dict, as the file keeps the order in which members came.
        kept = dict.fromkeys(name for name in iterate(cohort.user_ids) if name not in gone)
        kept.update(dict.fromkeys(add))
        update = {"user_ids": tuple(kept), "size": None, "last_computed_s": None}
        return self.put(cohort.model_copy(update=update), now_ms)

    def open_export(self, cohort: StandInCohort, now_ms: int) -> CohortExport:
        """Start an export, and count it."""
        self.meter.count(now_ms)
        export = CohortExport(uuid4().hex[:12], cohort, now_ms)
        self.exports[export.request_id] = export
        return export

    def unfinished(self, job: Job, now_ms: int) -> int:
        """Return how many exports of the last minute are still running."""
        return sum(
            now_ms - export.requested_at < _PARALLEL_FOR_MS and not export.is_done(job, now_ms)
            for export in self.exports.values()
        )
