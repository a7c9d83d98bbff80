"""A real segment table in a folder, with what tests do to it."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from relay.cohorts.catalog import Cohort
from relay.cohorts.guard import GuardPolicy
from relay.cohorts.message import CohortMessage
from relay.cohorts.staleness import Watermark
from relay.directory.evidence import Evidence
from relay.directory.export_file import SubscriptionRow
from relay.pulse import Pulse
from relay.segments.catalog import AppRules
from relay.segments.directory import ExportTruth
from relay.segments.messages import MessageAnswer, take_message
from relay.segments.polls import Polls
from relay.segments.runs import Export, Outcome
from relay.segments.segments import DATABASE_NAME, Segments, open_segments
from relay.segments.sorting import SortedIds, SortedRows, open_sorting
from tests.support.clocks import FakeClock

APP = "shop"
NOW = 1_700_000_000_000
SECOND = 1_000
GUARD = GuardPolicy(0.2, 100)
RANGE_IDS = 3
KNOWN = AppRules(takes_all=False, segment_limit=None)


@asynccontextmanager
async def open_table(
    folder: Path, rules: AppRules = KNOWN, apps: Sequence[str] = (APP,)
) -> AsyncIterator[Segments]:
    """Open the segment table of a folder."""
    async with open_segments(
        folder, dict.fromkeys(apps, rules), now_ms=NOW, pulse=Pulse(FakeClock())
    ) as segments:
        yield segments


async def know(
    segments: Segments, users: Mapping[str, Sequence[bool]], at: int = NOW, app: str = APP
) -> None:
    """Make users known, each with subscriptions of these flags."""
    for user, flags in users.items():
        rows = [
            SubscriptionRow(user, f"{user}/{place}", "iOSPush", flag)
            for place, flag in enumerate(flags)
        ]
        await segments.directory.put_user(segments.catalog.number(app), user, rows, at)


async def poll(  # noqa: PLR0913  # a download, whole
    segments: Segments,
    folder: Path,
    ids: Sequence[str],
    *,
    cohort_id: str = "c1",
    at: int = NOW,
    empty_ids: int = 0,
    guard: GuardPolicy = GUARD,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
    now: int | None = None,
) -> Outcome:
    """Download a cohort of these ids, computed at `at`, as a poll would.

    `meanwhile` happens between the comparison and the publication.
    """
    number = segments.catalog.number(APP)
    size = len(set(ids)) + empty_ids
    await segments.catalog.note_listing(
        number,
        [Cohort(cohort_id, f"Cohort {cohort_id}", size, at, at, is_archived=False)],
        at,
    )
    cohort = await cohort_no(segments, cohort_id)
    polls = Polls(segments.database)
    begun_at = at if now is None else now
    run = await polls.begin(
        cohort, Watermark(at, at, size), Export(requested_at=begun_at), begun_at
    )
    staging = polls.stage(cohort, run)
    compared = await staging.begin()
    async with open_sorting(folder / "sorting.db") as scratch:
        taken = SortedIds(scratch)
        await taken.add(ids)
        members = await taken.sort()
        async for piece in taken.pieces(RANGE_IDS):
            await staging.add(piece)
    await staging.note_members(members, empty_ids)
    if meanwhile:
        await meanwhile()
    return await polls.publish(staging, compared, guard, begun_at)


async def send(  # noqa: PLR0913  # a message, whole
    segments: Segments,
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
    """Take a message of the webhook."""
    message = CohortMessage(
        cohort_id,
        name or f"Cohort {cohort_id}",
        is_entering,
        computed_at,
        message_id,
        ids,
        empty_ids,
    )
    number = segments.catalog.number(app)
    return await segments.database.write(lambda raw: take_message(raw, number, message, guard, at))


async def take_export(
    segments: Segments,
    folder: Path,
    rows: Mapping[str, Mapping[str, bool]],
    *,
    asked_at: int,
    is_whole: bool = True,
    drops_users: bool = False,
) -> None:
    """Take an export of OneSignal's over: users, their subscriptions' ids, their flags."""
    truth = ExportTruth(asked_at, is_whole=is_whole, drops_users=drops_users)
    number, now = segments.catalog.number(APP), asked_at + SECOND
    async with open_sorting(folder / "sorting.db") as scratch:
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
            part = piece._replace(rows=segments.forgotten.without_rows(number, piece.rows))
            await segments.directory.apply_part(number, part, truth, now)
    await segments.directory.finish_export(number, truth, now)


async def see_event(
    segments: Segments,
    user: str | None,
    subscription_id: str,
    *,
    at: int,
    flag: bool | None = None,
    is_proof: bool = False,
) -> None:
    """Let the directory learn from one event, which arrives at once."""
    item = Evidence(user, subscription_id, "iOSPush", flag, is_proof, at)
    await segments.directory.heed(segments.catalog.number(APP), [item], at)


async def forget(segments: Segments, user: str, at: int = NOW, app: str = APP) -> None:
    """Forget a user in the segment table."""
    number = segments.catalog.number(app)
    await segments.forgetting.refuse(number, user, at)
    await segments.forgetting.remove(number, user, at)


async def cohort_no(segments: Segments, cohort_id: str = "c1") -> int:
    """Return a cohort's number."""
    cohort = await segments.reading.cohort(APP, cohort_id)
    assert cohort is not None
    return cohort.no


async def tidy(segments: Segments, at: int = NOW) -> None:
    """Remove all that is not needed any more."""
    while await segments.retention.step(at):
        pass


def crash_copy(folder: Path, target: Path) -> Path:
    """Copy an open segment table as a power cut would leave it; return the copy's folder."""
    target.mkdir()
    for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal"):
        if (folder / name).exists():
            shutil.copy(folder / name, target / name)
    return target


def look(folder: Path, query: str, *parameters: object) -> list[Any]:
    """Ask a segment table's file, as another program would."""
    with closing(sqlite3.connect(f"file:{folder / DATABASE_NAME}?mode=ro", uri=True)) as raw:
        return raw.execute(query, parameters).fetchall()


def members(folder: Path, cohort_id: str = "c1") -> list[str]:
    """Return the members of a segment, as another program would read them."""
    query = "SELECT external_id FROM segment_members WHERE cohort_id = ? ORDER BY external_id"
    return [name for (name,) in look(folder, query, cohort_id)]


def changes(folder: Path, cohort_id: str = "c1") -> list[tuple[str, str]]:
    """Return what the followers of a segment were told."""
    query = "SELECT external_id, change FROM segment_changes WHERE cohort_id = ? ORDER BY seq"
    return look(folder, query, cohort_id)


def segment(folder: Path, cohort_id: str = "c1") -> dict[str, Any]:
    """Return a segment, as another program would read it."""
    return _named(folder, "segments", cohort_id)[0]


def runs(folder: Path, cohort_id: str = "c1") -> list[dict[str, Any]]:
    """Return the runs of a cohort, oldest first."""
    return sorted(_named(folder, "cohort_runs", cohort_id), key=lambda run: int(run["run_id"]))


def _named(folder: Path, view: str, cohort_id: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{folder / DATABASE_NAME}?mode=ro", uri=True)) as raw:
        raw.row_factory = sqlite3.Row
        rows = raw.execute(f"SELECT * FROM {view} WHERE cohort_id = ?", (cohort_id,))
        return [dict(row) for row in rows]


def counted(folder: Path) -> list[tuple[Any, ...]]:
    """Return the stored figures of every cohort, and the same counted anew."""
    stored = look(
        folder,
        "SELECT no, ids, restricted_ids, matched_users, without_subscription, only_unsubscribed,"
        " subscribed_count FROM cohorts ORDER BY no",
    )
    anew = look(
        folder,
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
    assert [tuple(map(int, row)) for row in anew] == stored
    return stored
