"""The webhook guard against a model: the share of the members that a computation removes."""

import asyncio
import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.segments.guard import GuardPolicy
from tests.support.segment_tables import NOW, SECOND, SegmentTable, open_table

PEOPLE = ["a", "b", "c", "d", "e"]


class Step(NamedTuple):
    """Users become known, or enter or leave by a message of one computation."""

    kind: str
    users: list[str]


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["know", "enter", "leave", "leave"]),
        st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3, unique=True),
    ),
    max_size=12,
)
lists = st.lists(st.sampled_from(PEOPLE), unique=True)
ratios = st.sampled_from([0.2, 0.5, 0.75, 1.0])


class Model:
    """One computation as sets: listed and known users, those it added, those it removed."""

    def __init__(self, listed: list[str]) -> None:
        self.listed, self.known = set(listed), set[str]()
        self.came, self.gone = set[str](), set[str]()
        self.removed = 0
        self.is_segment = False

    def is_shrunk(self, users: set[str], ratio: float) -> bool:
        """Return whether these leavers, with earlier ones, are too large a share.

        The share is of the members the computation found, and of all there ever were.
        """
        found = ((self.listed - self.came) | self.gone) & self.known
        taken = found & (self.gone | users)
        leaving, members = users & self.listed & self.known, self.listed & self.known
        if not leaving or not self.is_segment:
            return False
        is_of_all = self.removed + len(leaving) > ratio * (self.removed + len(members))
        return len(taken) > ratio * len(found) or is_of_all

    def apply(self, step: Step) -> None:
        """Apply a step."""
        users = set(step.users)
        match step.kind:
            case "know":
                self.known |= users
            case "enter":
                self.came |= users - self.listed - self.gone
                self.gone -= users
                self.listed |= users
            case _:
                self.removed += len(users & self.listed & self.known)
                self.gone |= (users & self.listed) - self.came
                self.came -= users
                self.listed -= users
        self.is_segment = self.is_segment or bool(self.listed & self.known)


async def _play(table: SegmentTable, model: Model, played: list[Step], ratio: float) -> None:
    guard = GuardPolicy(ratio, 0)
    await table.poll(sorted(model.listed), guard=guard)
    for place, step in enumerate(played):
        if step.kind == "know":
            await table.know({user: [True] for user in step.users}, NOW + place)
        else:
            is_entering = step.kind == "enter"
            answer = await table.send(
                f"m{place}",
                *step.users,
                is_entering=is_entering,
                computed_at=NOW + SECOND,
                guard=guard,
            )
            is_held = not is_entering and model.is_shrunk(set(step.users), ratio)
            assert answer.is_held == is_held
            if is_held:
                return
        model.apply(step)
    assert table.look("SELECT run_id FROM runs WHERE state = 'held'") == []


@settings(max_examples=150, deadline=None)
@given(listed=lists, played=steps, ratio=ratios)
def test_a_computation_is_held_by_its_share_of_the_members_it_found_and_of_all(
    listed: list[str], played: list[Step], ratio: float
) -> None:
    """However messages and directory alternate; with a ratio of 1 it is never held."""

    async def play() -> None:
        with tempfile.TemporaryDirectory(prefix="relay-") as folder:
            async with open_table(Path(folder)) as table:
                await _play(table, Model(listed), played, ratio)

    asyncio.run(play())
