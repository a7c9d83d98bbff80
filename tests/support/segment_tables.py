"""A real segment table in a folder, with what tests do to it."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from relay.cohorts.catalog import Cohort
from relay.cohorts.guard import GuardPolicy
from relay.cohorts.message import CohortMessage
from relay.cohorts.staleness import Watermark
from relay.directory.export_file import SubscriptionRow
from relay.pulse import Pulse
from relay.segments.catalog import AppRules
from relay.segments.messages import MessageAnswer, take_message
from relay.segments.polls import Polls
from relay.segments.publish import Comparison
from relay.segments.runs import Export, Outcome
from relay.segments.segments import DATABASE_NAME, Segments, open_segments
from relay.segments.sorting import SortedIds, open_sorting
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


async def poll(
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
        [Cohort(cohort_id, f"Cohort {cohort_id}", size, at, at, False)],
        at,
    )
    cohort = await segments.catalog.cohort_number(number, cohort_id)
    assert cohort is not None
    polls = Polls(segments.database)
    begun_at = at if now is None else now
    run = await polls.begin(
        cohort, Watermark(at, at, size), Export(requested_at=begun_at), begun_at
    )
    staging = polls.stage(cohort, run)
    compared = Comparison(await staging.version(), begun_at)
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
) -> MessageAnswer:
    """Take a message of the webhook."""
    message = CohortMessage(
        cohort_id, f"Cohort {cohort_id}", is_entering, computed_at, message_id, ids, 0
    )
    number = segments.catalog.number(APP)
    return await segments.database.write(lambda raw: take_message(raw, number, message, guard, at))


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
            total(l.external_id IS NOT NULL AND u.external_id IS NULL AND x.external_id IS NOT NULL),
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
