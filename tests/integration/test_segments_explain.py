"""Why a cohort's size and its segment's count differ, in numbers that add up."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.onesignal.restricted_ids import RESTRICTED_IDS
from relay.segments.cohorts import AppRules
from relay.segments.read_model import GROUPS
from tests.support.segment_tables import NOW, SECOND, SegmentTable, open_table

ids = st.sampled_from([*(f"u{number}" for number in range(12)), *RESTRICTED_IDS])
lists = st.sets(ids, max_size=15)
people = st.dictionaries(ids, st.lists(st.booleans(), max_size=3), max_size=15)


async def _behind(table: SegmentTable, cohort: int, group: str) -> list[tuple[Any, ...]]:
    async with table.store.read_model.ids_behind(cohort, group) as blocks:
        return [row async for block in blocks for row in block]


@settings(max_examples=40, deadline=None)
@given(
    takes_all=st.booleans(),
    first=lists,
    second=lists,
    pushed=lists,
    known=people,
    later=people,
    empty_ids=st.integers(0, 3),
)
def test_the_numbers_add_up_and_match_the_listed_ids(  # noqa: PLR0913  # random data
    *,
    takes_all: bool,
    first: set[str],
    second: set[str],
    pushed: set[str],
    known: dict[str, list[bool]],
    later: dict[str, list[bool]],
    empty_ids: int,
) -> None:
    """Every missing user can be listed."""

    async def check(folder: Path) -> None:
        async with open_table(folder, AppRules(takes_all, None)) as table:
            await table.know(known)
            await table.poll(sorted(first))
            await table.poll(sorted(second), at=NOW + SECOND, empty_ids=empty_ids)
            await table.know(later)
            await table.send("m1", *sorted(pushed), computed_at=NOW + 2 * SECOND)
            await _check(table, second | pushed, known | later, empty_ids)

    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        asyncio.run(check(Path(folder)))


async def _check(
    table: SegmentTable,
    listed: set[str],
    known: dict[str, list[bool]],
    empty_ids: int,
) -> None:
    number = await table.cohort_no()
    shown = await table.store.read_model.explain(number)
    assert shown.cohort_size == len(listed) + empty_ids
    assert shown.cohort_size == (
        shown.empty_ids + shown.restricted_ids + shown.unknown_users + shown.matched_users
    )
    assert shown.matched_users == (
        shown.matched_without_subscription + shown.only_unsubscribed + shown.subscribed_users
    )
    assert shown.empty_ids == empty_ids
    assert shown.subscribed_count == sum(sum(known.get(user, [])) for user in listed)
    numbers = shown._asdict()
    rows = {group: await _behind(table, number, group) for group in GROUPS}
    for group, found in rows.items():
        assert len(found) == numbers[group], group
        names = [row[0] for row in found]
        assert names == sorted(names)
        for user, subscriptions, subscribed in found:
            assert (subscriptions, subscribed) == (
                len(known.get(user, [])),
                sum(known.get(user, [])),
            )
    named = {row[0] for found in rows.values() for row in found}
    assert named == listed
    table.check_figures()
    if shown.matched_users:
        row = table.segment()
        assert (row["cohort_size"], row["matched_users"], row["subscribed_count"]) == (
            shown.cohort_size,
            shown.matched_users,
            shown.subscribed_count,
        )
