"""The real segment table under any sequence of operations."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.events.observation import Observation
from relay.segments.directory import ExportScope
from relay.segments.guard import GuardPolicy
from relay.segments.sorting import SortedRows, open_sorting
from tests.support.held_open import HeldOpen
from tests.support.segment_tables import NOW, SECOND, open_table

Result = TypeVar("Result")

NO_GUARD = GuardPolicy(1.0, 0)
COHORTS = ("c1", "c2")
people = st.sampled_from(["a", "b", "c", "d", "e", "NA", "0"])
groups = st.lists(people, max_size=6)
cohorts = st.sampled_from(COHORTS)
instants = st.integers(0, 6).map(lambda step: NOW + step * SECOND)
flags = st.lists(st.booleans(), max_size=3)


class SegmentMachine(RuleBasedStateMachine):
    """Model: each cohort's list as a set of ids, each user's newest state, the directory."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="relay-"))
        self.lists: dict[str, set[str]] = {name: set() for name in COHORTS}
        self.words: dict[str, dict[str, int]] = {name: {} for name in COHORTS}
        self.computed: dict[str, int] = dict.fromkeys(COHORTS, 0)
        self.known: set[str] = set()
        self.forgotten: set[str] = set()
        self.messages = 0
        self.now = NOW + 1_000 * SECOND

    def _do(self, work: Coroutine[object, object, Result]) -> Result:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        """A relay starts."""
        self.open = HeldOpen(open_table(self.folder))
        self.table = self._do(self.open.enter())

    # Rules.

    @rule(cohort=cohorts, group=groups, at=instants)
    def poll(self, cohort: str, group: list[str], at: int) -> None:
        """Amplitude's file replaces the list; newer webhook messages still apply."""
        self._poll(cohort, group, at)

    @rule(
        cohort=cohorts,
        group=groups,
        at=instants,
        other=groups,
        is_entering=st.booleans(),
        to=instants,
    )
    def poll_with_message(
        self,
        cohort: str,
        group: list[str],
        at: int,
        other: list[str],
        to: int,
        *,
        is_entering: bool,
    ) -> None:
        """A message during the comparison counts as if it had come before."""
        self._poll(cohort, group, at, (other, is_entering, to))

    @rule(cohort=cohorts, group=groups, is_entering=st.booleans(), at=instants)
    def message(self, cohort: str, group: list[str], at: int, *, is_entering: bool) -> None:
        """Users enter or leave by the webhook, in any order of time."""
        self._do(self._send(cohort, group, at, is_entering=is_entering))

    @rule(user=people, flags=flags)
    def put_user(self, user: str, flags: list[bool]) -> None:
        """An app sets a user's subscriptions."""
        if user not in self.forgotten:
            self._do(self.table.know({user: flags}, self._tick()))
            self.known.add(user)

    @rule(user=people, owner=people, flag=st.booleans(), is_proof=st.booleans())
    def observe_event(self, user: str, owner: str, *, flag: bool, is_proof: bool) -> None:
        """An event proves a user and a subscription that may have been another's."""
        if user not in self.forgotten:
            item = Observation(user, f"{owner}/0", "iOSPush", flag, is_proof, self._tick())
            self._do(self.table.store.directory.apply_observations(1, [item], self.now))
            self.known.add(user)

    @rule(group=groups, flag=st.booleans(), is_complete=st.booleans(), drops=st.booleans())
    def apply_export(self, group: list[str], *, flag: bool, is_complete: bool, drops: bool) -> None:
        """A OneSignal export adds users; a complete one also removes some."""
        named = [user for user in group if user not in self.forgotten]
        scope = ExportScope(
            self._tick(), is_complete=is_complete, drops_users=is_complete and drops
        )
        self._do(self._apply(named, scope, flag=flag))
        self.known = set(named) if scope.drops_users else self.known | set(named)

    @rule(user=people)
    def forget(self, user: str) -> None:
        """A user is erased."""
        self._do(self.table.forget(user, self.now))
        self.forgotten.add(user)
        self.known.discard(user)
        for name in COHORTS:
            self.lists[name].discard(user)
            self.words[name].pop(user, None)

    @rule()
    def tidy(self) -> None:
        """Retention removes what is no longer needed."""
        self._do(self.table.tidy(self.now))

    @rule()
    def restart(self) -> None:
        """Relay stops and starts."""
        self._do(self.open.leave())
        self.begin()

    # Helpers.

    def _tick(self) -> int:
        self.now += SECOND
        return self.now

    def _poll(
        self,
        cohort: str,
        group: list[str],
        at: int,
        message: tuple[list[str], bool, int] | None = None,
    ) -> None:
        async def meanwhile() -> None:
            if message:
                other, is_entering, to = message
                await self._send(cohort, other, to, is_entering=is_entering)

        ids = self.table.store.forgotten.without(1, group)
        self._do(
            self.table.poll(
                ids,
                cohort_id=cohort,
                at=at,
                guard=NO_GUARD,
                meanwhile=meanwhile,
                now=self._tick(),
            )
        )
        words = self.words[cohort]
        newer = {user for user, told_at in words.items() if told_at > at}
        inside = {user for user in newer if user in self.lists[cohort]}
        self.lists[cohort] = (set(ids) - newer) | inside
        self.words[cohort] = {user: words[user] for user in newer}
        self.computed[cohort] = at

    async def _send(self, cohort: str, group: list[str], at: int, *, is_entering: bool) -> None:
        ids = self.table.store.forgotten.without(1, list(dict.fromkeys(group)))
        self.messages += 1
        await self.table.send(
            f"message-{self.messages}",
            *ids,
            is_entering=is_entering,
            computed_at=at,
            cohort_id=cohort,
            guard=NO_GUARD,
            at=self.now,
        )
        if at < self.computed[cohort]:
            return
        for user in ids:
            if self.words[cohort].get(user, 0) <= at:
                self.words[cohort][user] = at
                (self.lists[cohort].add if is_entering else self.lists[cohort].discard)(user)

    async def _apply(self, users: list[str], scope: ExportScope, *, flag: bool) -> None:
        async with open_sorting(self.folder / "sorting.db") as scratch:
            rows = SortedRows(scratch)
            await rows.add([(user, f"{user}/0", "iOSPush", int(flag)) for user in users])
            await rows.sort()
            async for piece in rows.pieces(2):
                await self.table.store.directory.apply_part(1, piece, scope, self.now)
        await self.table.store.directory.finish_export(1, scope, self.now)

    # Invariants.

    @invariant()
    def members_are_listed_and_known(self) -> None:
        """A segment is the listed and known users, and no others."""
        for name in COHORTS:
            assert self.table.members(name) == sorted(self.lists[name] & self.known)

    @invariant()
    def figures_are_true(self) -> None:
        """Figures kept incrementally equal a recount."""
        self.table.check_figures()

    @invariant()
    def followers_know_the_members(self) -> None:
        """Replaying all changes yields the members."""
        for name in COHORTS:
            followed: set[str] = set()
            for user, change in self.table.changes(name):
                (followed.add if change == "entered" else followed.discard)(user)
            assert followed == set(self.table.members(name))

    @invariant()
    def nothing_is_held(self) -> None:
        """The guard is off, so no removal is too large."""
        assert self.table.look("SELECT run_id FROM runs WHERE state = 'held'") == []

    @invariant()
    def forgotten_ids_are_nowhere(self) -> None:
        """Nothing is left of an erased user but the departure."""
        for user in self.forgotten:
            for table in ("listed", "run_changes", "marks", "users", "subscriptions"):
                query = f"SELECT count(*) FROM {table} WHERE external_id = ?"
                assert self.table.look(query, user) == [(0,)]
            entered = "SELECT count(*) FROM changes WHERE external_id = ? AND change = 1"
            assert self.table.look(entered, user) == [(0,)]

    def teardown(self) -> None:
        """The relay stops."""
        if hasattr(self, "open"):
            self._do(self.open.leave())
        self.runner.close()
        shutil.rmtree(self.folder)


SETTINGS = settings(stateful_step_count=25, deadline=None)


class LongerSegmentMachine(SegmentMachine):
    """The same, for as many sequences as fit into a minute."""


TestSegments = SegmentMachine.TestCase
TestSegments.settings = settings(SETTINGS, max_examples=20)
TestSegmentsLonger = pytest.mark.slow(LongerSegmentMachine.TestCase)
TestSegmentsLonger.settings = settings(SETTINGS, max_examples=150)
