"""One Amplitude project: its cohorts, its exports, and what counts against its limits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from relay.sandbox.answers import JsonObject
from relay.sandbox.cohort_files import FileShape, Members, iterate
from relay.sandbox.cohort_limits import PARALLEL_FOR_MS, Meter

APP_ID: Final = 187_520
_OWNER: Final = "analyst@example.com"


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
            is put, and later than before.
        last_mod_s: When the definition was changed; None = when it is put first.
        archived: Whether it is archived.
        published: Whether the list shows it and it can be exported.
        never_completes: Whether its exports run for ever.
        shape: What its file looks like.
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
        """Return how many members it has, those without an id included."""
        ids = self.user_ids
        known = sum(1 for _ in ids()) if callable(ids) else len(ids)
        return known + self.empty_ids

    def listed(self, *, with_sync: bool) -> JsonObject:
        """Return it as the list shows it."""
        shown: JsonObject = {
            "appId": APP_ID,
            "archived": self.archived,
            "chart_id": None,
            "createdAt": self.last_mod_s,
            "definition": {
                "version": 3,
                "countGroup": {"name": "User", "is_computed": False},
                "cohortType": "UNIQUES",
                "andClauses": [],
                "referenceFrameTimeParams": {},
            },
            "description": self.description,
            "edit_id": None,
            "finished": True,
            "hidden": False,
            "id": self.id,
            "is_official_content": False,
            "is_predictive": False,
            "lastComputed": self.last_computed_s,
            "lastMod": self.last_mod_s,
            "last_viewed": None,
            "location_id": None,
            "metadata": None,
            "name": self.name,
            "owners": [_OWNER],
            "popularity": None,
            "published": self.published,
            "shortcut_ids": [],
            "size": self.size,
            "type": "redshift",
            "view_count": 0,
            "viewers": [],
        }
        return {**shown, "syncMetadata": []} if with_sync else shown


@dataclass(slots=True)
class CohortExport:
    """One file that was asked for: a snapshot of its cohort.

    Attributes:
        request_id: Its id.
        cohort: The cohort as it was.
        requested_at: When, in UTC epoch milliseconds.
        polls: How often its state was asked for.
    """

    request_id: str
    cohort: StandInCohort
    requested_at: int
    polls: int = 0


class Job(BaseModel):
    """How long an export runs: until all of it is fulfilled.

    Attributes:
        polls: Questions after its state that are answered as running.
        seconds: Least time.
        never_completes: Whether none ever ends.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    polls: NonNegativeInt = 1
    seconds: float = Field(default=0.0, ge=0)
    never_completes: bool = False

    def is_done(self, export: CohortExport, now_ms: int) -> bool:
        """Tell whether an export is finished."""
        if self.never_completes or export.cohort.never_completes:
            return False
        age_ms = now_ms - export.requested_at
        return export.polls >= self.polls and age_ms >= self.seconds * 1000


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
        """Take a cohort in, or in place of the one of the same id, and return it complete."""
        now_s, before = now_ms // 1000, self.cohorts.get(cohort.id)
        changes: JsonObject = {}
        if cohort.size is None:
            changes["size"] = cohort.member_count()
        if cohort.last_computed_s is None:
            past_s = -1 if before is None else before.last_computed_s or 0
            changes["last_computed_s"] = max(now_s, past_s + 1)
        if cohort.last_mod_s is None:
            changes["last_mod_s"] = now_s if before is None else before.last_mod_s
        self.cohorts[cohort.id] = cohort.model_copy(update=changes)
        return self.cohorts[cohort.id]

    def change(
        self, cohort_id: str, add: Iterable[str], remove: Iterable[str], now_ms: int
    ) -> StandInCohort:
        """Compute a cohort anew with other members, the new ones at the end.

        Raises:
            KeyError: If there is no such cohort.
        """
        cohort, gone = self.cohorts[cohort_id], frozenset(remove)
        kept = dict.fromkeys(name for name in iterate(cohort.user_ids) if name not in gone)
        kept.update(dict.fromkeys(add))
        told = {"user_ids": tuple(kept), "size": None, "last_computed_s": None}
        return self.put(cohort.model_copy(update=told), now_ms)

    def open_export(self, cohort: StandInCohort, now_ms: int) -> CohortExport:
        """Begin an export, and count it."""
        self.meter.count(now_ms)
        export = CohortExport(uuid4().hex[:12], cohort, now_ms)
        self.exports[export.request_id] = export
        return export

    def unfinished(self, job: Job, now_ms: int) -> int:
        """Return how many exports of the last minute still run."""
        return sum(
            now_ms - export.requested_at < PARALLEL_FOR_MS and not job.is_done(export, now_ms)
            for export in self.exports.values()
        )
