"""A real segment table in a folder, and operations for tests."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from relay.amplitude.cohort_list import Cohort
from relay.amplitude.cohort_message import CohortMessage
from relay.events.observation import Observation
from relay.heartbeat import Heartbeat
from relay.onesignal.export_file import SubscriptionRow
from relay.segments.cohorts import AppRules
from relay.segments.directory import ExportScope
from relay.segments.guard import GuardPolicy
from relay.segments.runs import Export, Outcome
from relay.segments.sorting import SortedIds, SortedRows, open_sorting
from relay.segments.store import DATABASE_NAME, Segments, open_segments
from relay.segments.watermark import Watermark, needs_refresh
from relay.segments.webhook import MessageAnswer
from tests.support.clocks import FakeClock

APP = "shop"
NOW = 1_700_000_000_000
SECOND = 1_000
DAY_MS = 86_400 * SECOND
GUARD = GuardPolicy(0.2, 100)
SMALL = GuardPolicy(0.2, 5)
STRICT = GuardPolicy(0.0, 0)
TEN = [f"u{number}" for number in range(10)]
RANGE_IDS = 3
KNOWN = AppRules(takes_all=False, segment_limit=None)


class SegmentFile:
    """The file of a segment table, read as another program would, open or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def connect(self) -> sqlite3.Connection:
        """Open the file read-only."""
        return sqlite3.connect(f"file:{self.folder / DATABASE_NAME}?mode=ro", uri=True)

    def look(self, query: str, *parameters: object) -> list[Any]:
        """Return the rows of a query."""
        with closing(self.connect()) as raw:
            return raw.execute(query, parameters).fetchall()

    def members(self, cohort_id: str = "c1") -> list[str]:
        """Return the members of a segment, sorted."""
        query = "SELECT external_id FROM segment_members WHERE cohort_id = ? ORDER BY external_id"
        return [name for (name,) in self.look(query, cohort_id)]

    def changes(self, cohort_id: str = "c1") -> list[tuple[str, str]]:
        """Return users who entered and left a segment, oldest change first."""
        query = "SELECT external_id, change FROM segment_changes WHERE cohort_id = ? ORDER BY seq"
        return self.look(query, cohort_id)

    def entered(self) -> dict[str, int]:
        """Return all members with the instants of their entry."""
        return dict(self.look("SELECT external_id, entered_at FROM segment_members"))

    def segment(self, cohort_id: str = "c1") -> dict[str, Any]:
        """Return a segment's row."""
        return self._named("segments", cohort_id)[0]

    def runs(self, cohort_id: str = "c1") -> list[dict[str, Any]]:
        """Return the runs of a cohort, oldest first."""
        return sorted(self._named("cohort_runs", cohort_id), key=lambda run: int(run["run_id"]))

    def check_figures(self) -> None:
        """Check the stored figures of every cohort against a recount."""
        stored = self.look(
            "SELECT no, ids, restricted_ids, matched_users, without_subscription,"
            " only_unsubscribed, subscribed_count FROM cohorts ORDER BY no",
        )
        recount = self.look(
            """
            SELECT c.no, count(l.external_id),
                total(l.external_id IS NOT NULL AND u.external_id IS NULL
                    AND x.external_id IS NOT NULL),
                total(l.external_id IS NOT NULL AND (u.external_id IS NOT NULL
                    OR (a.takes_all AND x.external_id IS NULL))),
                total(l.external_id IS NOT NULL AND (u.external_id IS NOT NULL
                    OR (a.takes_all AND x.external_id IS NULL)) AND coalesce(s.number, 0) = 0),
                total(u.external_id IS NOT NULL AND s.number > 0 AND s.subscribed = 0),
                total(CASE WHEN u.external_id IS NULL THEN 0 ELSE s.subscribed END)
            FROM cohorts AS c
            JOIN apps AS a ON a.no = c.app
            LEFT JOIN listed AS l ON l.list = c.list
            LEFT JOIN users AS u ON u.app = c.app AND u.external_id = l.external_id
            LEFT JOIN restricted AS x ON x.external_id = l.external_id
            LEFT JOIN (
                SELECT app, external_id, count(*) AS number, sum(is_subscribed) AS subscribed
                FROM subscriptions GROUP BY app, external_id
            ) AS s ON s.app = c.app AND s.external_id = l.external_id
            GROUP BY c.no ORDER BY c.no
            """,
        )
        assert [tuple(map(int, row)) for row in recount] == stored

    def _named(self, view: str, cohort_id: str) -> list[dict[str, Any]]:
        with closing(self.connect()) as raw:
            raw.row_factory = sqlite3.Row
            rows = raw.execute(f"SELECT * FROM {view} WHERE cohort_id = ?", (cohort_id,))
            return [dict(row) for row in rows]


class SegmentTable(SegmentFile):
    """An open segment table, and what can happen to it.

    Attributes:
        store: The store under test.
    """

    def __init__(self, folder: Path, store: Segments) -> None:
        super().__init__(folder)
        self.store = store

    async def know(
        self, users: Mapping[str, Sequence[bool]], at: int = NOW, app: str = APP
    ) -> None:
        """Add known users, each with subscriptions of these flags."""
        for user, flags in users.items():
            rows = [
                SubscriptionRow(user, f"{user}/{place}", "iOSPush", flag)
                for place, flag in enumerate(flags)
            ]
            await self.store.directory.put_user(self.store.cohorts.number(app), user, rows, at)

    async def poll(  # noqa: PLR0913  # a download, whole
        self,
        ids: Sequence[str],
        *,
        cohort_id: str = "c1",
        at: int = NOW,
        empty_ids: int = 0,
        guard: GuardPolicy = GUARD,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
        now: int | None = None,
    ) -> Outcome:
        """Download a cohort of these ids, computed at `at`, as the poller does.

        `meanwhile` runs between the comparison and the publication.
        """
        number = self.store.cohorts.number(APP)
        size = len(set(ids)) + empty_ids
        await self.store.cohorts.set_listing(
            number,
            [Cohort(cohort_id, f"Cohort {cohort_id}", size, at, at, is_archived=False)],
            at,
        )
        cohort = await self.cohort_no(cohort_id)
        begun_at = at if now is None else now
        run = await self.store.downloads.begin(
            cohort, Watermark(at, at, size), Export(requested_at=begun_at), begun_at
        )
        staged = self.store.stage(cohort, run)
        await staged.begin()
        async with open_sorting(self.folder / "sorting.db") as scratch:
            sorted_ids = SortedIds(scratch)
            await sorted_ids.add(ids)
            members = await sorted_ids.sort()
            async for piece in sorted_ids.pieces(RANGE_IDS):
                await staged.add(piece)
        await staged.set_counts(members, empty_ids)
        if meanwhile:
            await meanwhile()
        return await staged.publish(guard, begun_at)

    async def send(  # noqa: PLR0913  # a message, whole
        self,
        message_id: str,
        *ids: str,
        is_entering: bool = True,
        computed_at: int = NOW,
        cohort_id: str = "c1",
        guard: GuardPolicy = GUARD,
        at: int = NOW,
        name: str | None = None,
        empty_ids: int = 0,
        app: str = APP,
    ) -> MessageAnswer:
        """Apply a message of the webhook."""
        message = CohortMessage(
            cohort_id,
            name or f"Cohort {cohort_id}",
            is_entering,
            computed_at,
            message_id,
            ids,
            empty_ids,
        )
        number = self.store.cohorts.number(app)
        return await self.store.webhook.apply(number, message, guard, at)

    async def apply_export(
        self,
        rows: Mapping[str, Mapping[str, bool]],
        *,
        asked_at: int,
        is_complete: bool = True,
        drops_users: bool = False,
    ) -> None:
        """Apply a OneSignal export: users, their subscriptions' ids and flags."""
        truth = ExportScope(asked_at, is_complete=is_complete, drops_users=drops_users)
        number, now = self.store.cohorts.number(APP), asked_at + SECOND
        async with open_sorting(self.folder / "sorting.db") as scratch:
            sorted_rows = SortedRows(scratch)
            await sorted_rows.add(
                [
                    (user, id_, "iOSPush", int(flag))
                    for user, subscriptions in rows.items()
                    for id_, flag in subscriptions.items()
                ]
            )
            await sorted_rows.sort()
            async for piece in sorted_rows.pieces(RANGE_IDS):
                part = piece._replace(rows=self.store.forgotten.without_rows(number, piece.rows))
                await self.store.directory.apply_part(number, part, truth, now)
        await self.store.directory.finish_export(number, truth, now)

    async def observe_event(
        self,
        user: str | None,
        subscription_id: str,
        *,
        at: int,
        flag: bool | None = None,
        is_proof: bool = False,
    ) -> None:
        """Apply one event's observation, which arrives at once."""
        item = Observation(user, subscription_id, "iOSPush", flag, is_proof, at)
        await self.store.directory.apply_observations(self.store.cohorts.number(APP), [item], at)

    async def forget(self, user: str, at: int = NOW, app: str = APP) -> None:
        """Erase a user from the segment table."""
        number = self.store.cohorts.number(app)
        await self.store.erasure.keep_out(number, user, at)
        await self.store.erasure.remove(number, user, at)

    async def cohort_no(self, cohort_id: str = "c1") -> int:
        """Return a cohort's number."""
        cohort = await self.store.read_model.cohort(APP, cohort_id)
        assert cohort is not None
        return cohort.no

    async def begin_run(self, cohort_id: str = "c1", *, size: int = 1, at: int = NOW) -> int:
        """Begin a download of a listed cohort and leave it open; return its run."""
        cohort = await self.cohort_no(cohort_id)
        return await self.store.downloads.begin(
            cohort, Watermark(at, at, size), Export("export-1", at, is_complete=True), at
        )

    async def is_refresh_needed(self) -> bool:
        """Return whether the app's only cohort needs a download."""
        (cohort,) = await self.store.cohorts.listed(self.store.cohorts.number(APP), NOW)
        return needs_refresh(
            cohort.listed, applied=cohort.applied, rejected=cohort.rejected, held=cohort.held
        )

    async def tidy(self, at: int = NOW) -> None:
        """Run the retention until nothing is left to remove."""
        while await self.store.retention.step(at):
            pass


@asynccontextmanager
async def open_table(
    folder: Path, rules: AppRules = KNOWN, apps: Sequence[str] = (APP,)
) -> AsyncIterator[SegmentTable]:
    """Open the segment table of a folder."""
    async with open_segments(
        folder, dict.fromkeys(apps, rules), now_ms=NOW, heartbeat=Heartbeat(FakeClock())
    ) as segments:
        yield SegmentTable(folder, segments)
