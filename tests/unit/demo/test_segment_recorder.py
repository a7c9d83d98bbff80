"""The demo's recorder: it reads a real segment table and reports contradictory views."""

from pathlib import Path

import anyio

from relay.demo.segment_recorder import SegmentRecorder
from relay.segments.store import DATABASE_NAME
from relay.segments.views import ChangeRow, SegmentRow, Views
from tests.support.segment_tables import APP, open_table

DEADLINE_S = 5.0


def segment(members: int) -> SegmentRow:
    """Return a segment with a number of members."""
    return SegmentRow("c1", "Cohort", "active", members, members, members, 1)


def views(members: str, *changes: tuple[int, str, str]) -> Views:
    """Return views of one segment."""
    return Views(
        {"c1": segment(len(members))},
        {"c1": frozenset(members)},
        [ChangeRow(seq, "c1", user, change) for seq, user, change in changes],
        [],
    )


async def test_a_segment_is_read_and_followed(tmp_path: Path) -> None:
    """Every revision of a real table is seen, and its changes connect them."""
    recorder = SegmentRecorder(tmp_path / DATABASE_NAME, APP)
    async with open_table(tmp_path) as table, anyio.create_task_group() as tasks:
        await table.know({name: [True] for name in "abc"})
        with anyio.fail_after(DEADLINE_S):
            await tasks.start(recorder.run)
            await table.poll(["a", "b", "x"])
            first = await recorder.fresh()
            await table.send("m1", "c")
            await recorder.fresh()
            await table.send("m2", "a", is_entering=False)
            last = await recorder.fresh()
        tasks.cancel_scope.cancel()
    assert first.segments["c1"].cohort_size == 3
    assert [run.source for run in last.runs] == ["poll", "webhook"]
    assert recorder.history.seen["c1"] == [frozenset("ab"), frozenset("abc"), frozenset("bc")]
    assert recorder.history.changes == {"c1": 4}
    assert recorder.history.contradictions == recorder.history.errors == []
    assert [change.change for change in recorder.last_changes["c1"]] == ["left"]


async def test_a_failing_read_is_reported(tmp_path: Path) -> None:
    """A failing read is a failed check, not a crash of the demo."""
    recorder = SegmentRecorder(tmp_path / "none.db", APP)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(DEADLINE_S):
            await tasks.start(recorder.run)
            while not recorder.history.errors:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert "unable to open" in recorder.history.errors[0]


def test_members_without_a_change_are_a_contradiction(tmp_path: Path) -> None:
    """A follower would miss them."""
    recorder = SegmentRecorder(tmp_path, APP)
    recorder.record(views("ab", (1, "a", "entered")))
    assert recorder.history.contradictions == [
        "c1: the changes up to 1 lead to 1 members, the view has 2, 1 differ"
    ]


def test_a_change_that_changes_nothing_is_a_contradiction(tmp_path: Path) -> None:
    """A user cannot enter twice, nor leave without having entered."""
    recorder = SegmentRecorder(tmp_path, APP)
    recorder.record(views("a", (1, "a", "entered"), (2, "a", "entered"), (3, "b", "left")))
    assert len(recorder.history.contradictions) == 2


def test_a_number_that_goes_back_is_a_contradiction(tmp_path: Path) -> None:
    """A follower asks for what comes after the last number it saw."""
    recorder = SegmentRecorder(tmp_path, APP)
    recorder.record(views("a", (5, "a", "entered")))
    recorder.record(views("ab", (4, "b", "entered")))
    assert recorder.history.contradictions == ["change 4 does not follow from those before"]


def test_a_count_that_is_not_of_the_members_is_a_contradiction(tmp_path: Path) -> None:
    """Both views are of one instant."""
    recorder = SegmentRecorder(tmp_path, APP)
    seen = views("ab", (1, "a", "entered"), (2, "b", "entered"))
    recorder.record(seen._replace(segments={"c1": segment(3)}))
    assert recorder.history.contradictions == ["c1: 2 members, but the segment tells of 3"]
    recorder.record(seen._replace(segments={}, changes=[]))
    assert recorder.history.contradictions[1:] == ["c1: 2 members, but the segment tells of none"]
