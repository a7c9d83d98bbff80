"""The demo's reader: it sees a real segment table, and tells when views contradict each other."""

from pathlib import Path

import anyio
from relay.demo.reader import ChangeRow, Reader, SegmentRow, Snapshot, read_snapshot

from relay.segments.store import DATABASE_NAME
from tests.support.segment_tables import APP, open_table

DEADLINE_S = 5.0


def segment(members: int) -> SegmentRow:
    """Return a segment with so many members."""
    return SegmentRow("c1", "Cohort", "active", members, members, members, 1)


def snapshot(members: str, *changes: tuple[int, str, str]) -> Snapshot:
    """Return a snapshot of one segment."""
    return Snapshot(
        {"c1": segment(len(members))},
        {"c1": frozenset(members)},
        [ChangeRow(seq, "c1", user, change) for seq, user, change in changes],
        [],
    )


async def test_a_segment_is_read_and_followed(tmp_path: Path) -> None:
    """Every revision of a real table is seen, and its changes lead from one to the next."""
    reader = Reader(tmp_path / DATABASE_NAME, APP)
    async with open_table(tmp_path) as table, anyio.create_task_group() as tasks:
        await table.know({name: [True] for name in "abc"})
        with anyio.fail_after(DEADLINE_S):
            await tasks.start(reader.run)
            await table.poll(["a", "b", "x"])
            first = await reader.fresh()
            await table.send("m1", "c")
            await reader.fresh()
            await table.send("m2", "a", is_entering=False)
            last = await reader.fresh()
        tasks.cancel_scope.cancel()
    assert first.segments["c1"].cohort_size == 3
    assert [run.source for run in last.runs] == ["poll", "webhook"]
    assert reader.readings.sights["c1"] == [frozenset("ab"), frozenset("abc"), frozenset("bc")]
    assert reader.readings.changes == {"c1": 4}
    assert reader.readings.quarrels == reader.readings.failures == []
    assert [change.change for change in reader.last_changes["c1"]] == ["left"]


async def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A reader that is refused is a broken promise, not a crash of the demo."""
    reader = Reader(tmp_path / "none.db", APP)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(DEADLINE_S):
            await tasks.start(reader.run)
            while not reader.readings.failures:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert "unable to open" in reader.readings.failures[0]


async def test_a_reading_begins_after_what_was_asked_for(tmp_path: Path) -> None:
    """Changes that are known already are not read again."""
    async with open_table(tmp_path) as table:
        await table.know({name: [True] for name in "ab"})
        await table.poll(["a", "b"])
        whole = read_snapshot(tmp_path / DATABASE_NAME, APP, 0)
        rest = read_snapshot(tmp_path / DATABASE_NAME, APP, whole.changes[0].seq)
    assert rest.changes == whole.changes[1:]
    assert rest.members == whole.members == {"c1": frozenset("ab")}


def test_members_without_a_change_are_a_quarrel(tmp_path: Path) -> None:
    """A follower would miss them."""
    reader = Reader(tmp_path, APP)
    reader.take(snapshot("ab", (1, "a", "entered")))
    assert reader.readings.quarrels == [
        "c1: the changes up to 1 lead to 1 members, the view has 2, 1 differ"
    ]


def test_a_change_that_changes_nothing_is_a_quarrel(tmp_path: Path) -> None:
    """Somebody cannot enter twice, nor leave without having entered."""
    reader = Reader(tmp_path, APP)
    reader.take(snapshot("a", (1, "a", "entered"), (2, "a", "entered"), (3, "b", "left")))
    assert len(reader.readings.quarrels) == 2


def test_a_number_that_goes_back_is_a_quarrel(tmp_path: Path) -> None:
    """A follower asks for what comes after the last number it saw."""
    reader = Reader(tmp_path, APP)
    reader.take(snapshot("a", (5, "a", "entered")))
    reader.take(snapshot("ab", (4, "b", "entered")))
    assert reader.readings.quarrels == ["change 4 does not follow from those before"]


def test_a_count_that_is_not_of_the_members_is_a_quarrel(tmp_path: Path) -> None:
    """Both views are of one instant."""
    reader = Reader(tmp_path, APP)
    seen = snapshot("ab", (1, "a", "entered"), (2, "b", "entered"))
    reader.take(seen._replace(segments={"c1": segment(3)}))
    assert reader.readings.quarrels == ["c1: 2 members, but the segment tells of 3"]
    reader.take(seen._replace(segments={}, changes=[]))
    assert reader.readings.quarrels[1:] == ["c1: 2 members, but the segment tells of none"]
