"""The cohorts webhook: repeated, out of order, and alongside downloads."""

from itertools import permutations
from pathlib import Path

import pytest

from relay.errors import Conflict
from relay.segments.guard import GuardPolicy
from relay.segments.webhook import MessageAnswer
from tests.support.segment_tables import APP, NOW, SECOND, SMALL, TEN, SegmentTable, open_table

T1, T2, T3 = (NOW + step * 60 * SECOND for step in (1, 2, 3))


async def _ten_members(table: SegmentTable) -> None:
    await table.know({user: [True] for user in (*TEN, "n1", "n2")})
    await table.poll(TEN, guard=SMALL)


async def _leave(table: SegmentTable, message_id: str, *ids: str, to: int = T1) -> MessageAnswer:
    return await table.send(message_id, *ids, is_entering=False, computed_at=to, guard=SMALL, at=to)


async def _enter(table: SegmentTable, message_id: str, *ids: str, to: int = T1) -> MessageAnswer:
    return await table.send(message_id, *ids, computed_at=to, guard=SMALL, at=to)


async def test_a_message_is_applied_once_whatever_its_repetition_says(tmp_path: Path) -> None:
    """Amplitude resends what was not answered in time, with the same id."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        assert await table.send("m1", "a") == MessageAnswer(added=1)
        for again in (("a",), ("b",)):
            assert await table.send("m1", *again) == MessageAnswer(is_duplicate=True)
        assert await table.send("m1", "a", cohort_id="c2") == MessageAnswer(is_duplicate=True)
        assert table.members() == ["a"]
        assert [run["members"] for run in table.runs()] == [1]


async def test_message_ids_of_two_apps_are_independent(tmp_path: Path) -> None:
    """Each app is its own project."""
    async with open_table(tmp_path, apps=(APP, "other")) as table:
        for app in (APP, "other"):
            await table.know({"a": [True]}, app=app)
            assert await table.send("m1", "a", app=app) == MessageAnswer(added=1)


@pytest.mark.parametrize("order", list(permutations([(True, T1), (False, T2), (True, T3)])))
async def test_the_message_computed_last_counts(
    tmp_path: Path, order: tuple[tuple[bool, int], ...]
) -> None:
    """Amplitude guarantees no order of arrival."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.send("m0", "b", computed_at=T1)
        for is_entering, computed_at in order:
            await table.send(
                f"m{computed_at}",
                "a",
                is_entering=is_entering,
                computed_at=computed_at,
            )
        assert table.members() == ["a", "b"]
        assert table.segment()["computed_at"] == T3
        table.check_figures()


async def test_messages_of_one_computation_count_in_order_of_arrival(tmp_path: Path) -> None:
    """Nothing else tells which is later."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await _enter(table, "m1", "a")
        assert (await _leave(table, "m2", "a")).removed == 1
        assert table.members() == []
        assert (await _enter(table, "m3", "a")).added == 1
        assert table.members() == ["a"]


@pytest.mark.parametrize(("computed_at", "left"), [(T1, ["b"]), (T2, ["a", "b"]), (T3, ["a", "b"])])
async def test_messages_older_than_the_downloaded_list_are_ignored(
    tmp_path: Path, computed_at: int, left: list[str]
) -> None:
    """The file covers every user at its computation; newer messages still count."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.poll(["b"], at=T2)
        answer = await table.send("m1", "a", computed_at=computed_at)
        assert answer == MessageAnswer(added=len(left) - 1)
        assert table.members() == left
        assert table.segment()["computed_at"] == max(T2, computed_at)
        table.check_figures()


async def test_leavers_of_one_computation_are_counted_together(tmp_path: Path) -> None:
    """A mass exit in small messages is a mass exit; what was applied before stays."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        assert await _leave(table, "m1", "u0") == MessageAnswer(removed=1)
        assert await _leave(table, "m2", "u1") == MessageAnswer(removed=1)
        assert await _leave(table, "m3", "u2") == MessageAnswer(is_held=True)
        assert await _enter(table, "m4", "n1") == MessageAnswer(is_held=True)
        assert table.members() == TEN[2:]
        assert table.segment()["state"] == "held"
        *_, applied, held = table.runs()
        assert (applied["state"], applied["removed"], applied["source"]) == (
            "applied",
            2,
            "webhook",
        )
        assert (held["state"], held["members"], held["source"]) == ("held", 2, "webhook")
        assert "3 of 10" in str(held["reason"])
        table.check_figures()


async def test_leavers_of_another_computation_are_counted_separately(tmp_path: Path) -> None:
    """A held computation does not stop the next one, and stays held."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", "u0", "u1", "u2")
        assert await _leave(table, "m2", "u3", to=T2) == MessageAnswer(removed=1)
        assert await _enter(table, "m3", "n1", to=T2) == MessageAnswer(added=1)
        assert table.segment()["state"] == "held"
        assert table.members() == ["n1", *(user for user in TEN if user != "u3")]


async def test_earlier_entries_do_not_hide_the_leavers(tmp_path: Path) -> None:
    """A computation may add and remove; the share is of the members at the first leaver."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _enter(table, "m1", "n1")
        assert await _leave(table, "m2", "u0", "u1") == MessageAnswer(removed=2)
        assert await _leave(table, "m3", "u2") == MessageAnswer(is_held=True)
        assert "3 of 10" in str(table.runs()[-1]["reason"])


async def test_members_learned_between_two_messages_belong_to_the_base(tmp_path: Path) -> None:
    """With a ratio of 1 nothing is held, even if users became members after the first leaver."""
    off = GuardPolicy(1.0, 0)
    async with open_table(tmp_path) as table:
        await table.poll(["a", "e"], guard=off)
        await table.know({"c": [True], "e": [True]})
        leaving = {"is_entering": False, "computed_at": T1, "guard": off}
        assert await table.send("m1", "e", **leaving) == MessageAnswer(removed=1)  # type: ignore[arg-type]  # as named
        await table.know({"a": [True]})
        assert await table.send("m2", "a", **leaving) == MessageAnswer(removed=1)  # type: ignore[arg-type]
        assert table.members() == []
        table.check_figures()


async def test_the_share_is_of_all_members_apart_from_the_computation_s(
    tmp_path: Path,
) -> None:
    """Four of twenty is a fifth, though ten of the twenty became known after the first leavers."""
    late = [f"v{number}" for number in range(10)]
    async with open_table(tmp_path) as table:
        await table.know({user: [True] for user in TEN})
        await table.poll(TEN + late, guard=SMALL)
        assert await _leave(table, "m1", "u0", "u1") == MessageAnswer(removed=2)
        await table.know({user: [True] for user in late})
        assert await _leave(table, "m2", "v0", "u2") == MessageAnswer(removed=2)
        assert await _leave(table, "m3", "v1") == MessageAnswer(is_held=True)
        assert "5 of 20" in str(table.runs()[-1]["reason"])
        table.check_figures()


async def test_users_who_enter_and_leave_by_one_computation_are_in_the_base(tmp_path: Path) -> None:
    """The base is the members the computation found, and all there ever were."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _enter(table, "m1", "n1", "n2")
        assert await _leave(table, "m2", "n1", "u0") == MessageAnswer(removed=2)
        assert await _leave(table, "m3", "n2", "u1") == MessageAnswer(is_held=True)
        assert "4 of 12" in str(table.runs()[-1]["reason"])


async def test_a_computation_that_added_all_members_cannot_remove_them_unguarded(
    tmp_path: Path,
) -> None:
    """It found no members; its removals count by those it brought, also in small messages."""
    async with open_table(tmp_path) as table:
        await table.know({user: [True] for user in TEN})
        await _enter(table, "m1", *TEN)
        assert await _leave(table, "m2", "u0") == MessageAnswer(removed=1)
        assert await _leave(table, "m3", "u1") == MessageAnswer(removed=1)
        assert await _leave(table, "m4", "u2") == MessageAnswer(is_held=True)
        assert "3 of 10" in str(table.runs()[-1]["reason"])


async def test_leavers_are_counted_together_across_retention(tmp_path: Path) -> None:
    """Retention between the messages of one computation does not reset the guard."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", "u0", "u1", to=T3)
        for place, user in enumerate(("n1", "n2", "n1", "n2")):
            await table.send(f"n{place}", user, is_entering=place < 2, computed_at=T3 + place + 1)
        await table.tidy(T3)
        assert await _leave(table, "m2", "u2", to=T3) == MessageAnswer(is_held=True)


async def test_unknown_users_leave_unguarded(tmp_path: Path) -> None:
    """The segment loses no member."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        unknown = [f"s{number}" for number in range(9)]
        await _enter(table, "m1", *unknown)
        assert await _leave(table, "m2", *unknown, to=T2) == MessageAnswer()
        assert table.segment()["cohort_size"] == 10
        assert table.segment()["state"] == "active"


async def test_a_held_message_that_is_repeated_is_held_once(tmp_path: Path) -> None:
    """Resending changes nothing."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", *TEN[:5])
        assert await _leave(table, "m1", *TEN[:5]) == MessageAnswer(is_duplicate=True)
        assert [run["members"] for run in table.runs() if run["state"] == "held"] == [5]


async def test_an_approved_computation_is_applied_with_all_that_follows(tmp_path: Path) -> None:
    """The operator decided on the computation, not only on the messages so far."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", "u0", "u1")
        await _leave(table, "m2", "u2")
        await _enter(table, "m3", "n1")
        await table.store.review.approve(table.runs()[-1]["run_id"], T2)
        assert table.members() == ["n1", *TEN[3:]]
        held = table.runs()[-1]
        assert (held["state"], held["added"], held["removed"]) == ("applied", 1, 1)
        assert await _leave(table, "m4", *TEN[3:8]) == MessageAnswer(removed=5)
        assert table.members() == ["n1", "u8", "u9"]
        assert table.segment()["state"] == "active"
        assert table.segment()["computed_at"] == T1
        table.check_figures()


async def test_a_rejected_computation_is_ignored(tmp_path: Path) -> None:
    """Its later messages neither change nor hold anything; applied ones stay."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", "u0")
        await _leave(table, "m2", *TEN[1:6])
        await table.store.review.reject(table.runs()[-1]["run_id"], T2)
        assert table.segment()["state"] == "active"
        assert await _leave(table, "m3", "u7") == MessageAnswer()
        assert await _enter(table, "m4", "n1") == MessageAnswer()
        assert table.members() == TEN[1:]
        assert await _leave(table, "m5", "u1", to=T2) == MessageAnswer(removed=1)
        with pytest.raises(Conflict):
            await table.store.review.approve(
                next(run["run_id"] for run in table.runs() if run["state"] == "rejected"), T3
            )
        table.check_figures()


async def test_approval_does_not_undo_newer_messages(tmp_path: Path) -> None:
    """Newer messages override the approved computation."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", *TEN[:5])
        await _enter(table, "m2", "n1")
        held = table.runs()[-1]
        await _enter(table, "m3", "u0", to=T2)
        await _leave(table, "m4", "n1", to=T2)
        await table.store.review.approve(held["run_id"], T3)
        assert table.members() == ["u0", *TEN[5:]]
        table.check_figures()


async def test_a_newer_download_overtakes_a_held_computation(tmp_path: Path) -> None:
    """The file is complete; there is nothing left to decide."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", *TEN[:5])
        await table.poll(TEN[1:], at=T2, guard=SMALL)
        assert table.segment()["state"] == "active"
        assert await _leave(table, "m2", "u9") == MessageAnswer()
        assert table.members() == TEN[1:]


async def test_an_older_download_leaves_a_held_computation_to_be_decided(tmp_path: Path) -> None:
    """The download is older than the computation."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", *TEN[:5], to=T3)
        await table.poll(TEN[1:], at=T2, guard=SMALL)
        assert table.segment()["state"] == "held"
        held = next(run for run in table.runs() if run["state"] == "held")
        await table.store.review.approve(held["run_id"], T3 + SECOND)
        assert table.members() == TEN[5:]
        table.check_figures()


async def test_a_cohort_known_by_the_webhook_alone_stays_active(tmp_path: Path) -> None:
    """Amplitude's list need not contain it, so it is not missing."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.send("m1", "a", cohort_id="pushed", name="Pushed")
        await table.poll(["a"], cohort_id="c1")
        await table.poll(["a"], cohort_id="c2")
        assert table.segment("c1")["state"] == "stale"
        assert table.segment("pushed")["state"] == "active"
        assert table.segment("pushed")["name"] == "Pushed"


async def test_a_pushed_cohort_has_the_newest_name_until_it_is_listed(
    tmp_path: Path,
) -> None:
    """A late message restores no old name, and Amplitude's list takes precedence."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        for message_id, name, computed_at, wanted in (
            ("m1", "First", T1, "First"),
            ("m2", "Third", T3, "Third"),
            ("m3", "Second", T2, "Third"),
        ):
            await table.send(message_id, "a", name=name, computed_at=computed_at)
            assert table.segment()["name"] == wanted
        await table.poll(["a"], at=T3)
        await table.send("m4", "a", name="Fourth", computed_at=T3 + SECOND)
        assert table.segment()["name"] == "Cohort c1"


async def test_an_older_download_does_not_undo_newer_messages(tmp_path: Path) -> None:
    """Polls are rare and exports slow; the webhook was earlier."""
    async with open_table(tmp_path) as table:
        await table.know({user: [True] for user in ("a", "b", "c")})
        await table.poll(["a", "b"])
        await table.send("m1", "c", computed_at=T2, at=T2)
        await table.send("m2", "a", is_entering=False, computed_at=T2, at=T2)
        await table.poll(["a", "b"], at=T1, now=T3)
        assert table.members() == ["b", "c"]
        table.check_figures()
        await table.poll(["a", "b"], at=T2, now=T3)
        assert table.members() == ["a", "b"]
        assert table.look("SELECT * FROM marks") == []
        table.check_figures()


@pytest.mark.parametrize("to", [T1, T2, T3])
@pytest.mark.parametrize("clock_step", [SECOND, 0, -3_600 * SECOND])
async def test_a_message_during_the_comparison_is_not_lost(
    tmp_path: Path, to: int, clock_step: int
) -> None:
    """Messages between comparison and publication count by their computation only.

    This also holds if the wall clock is set back meanwhile.
    """
    async with open_table(tmp_path) as table:
        everybody = ["a", "b", "c", "d"]
        await table.know({user: [True] for user in everybody})
        await table.poll(["a", "b"])
        begun_at = T3 + 60 * SECOND

        async def meanwhile() -> None:
            at = begun_at + clock_step
            await table.send("m1", "c", "d", computed_at=to, at=at)
            await table.send("m2", "a", is_entering=False, computed_at=to, at=at)

        await table.poll(["a", "b", "d"], at=T2, now=begun_at, meanwhile=meanwhile)
        assert table.members() == (["a", "b", "d"] if to <= T2 else ["b", "c", "d"])
        table.check_figures()


async def test_approval_during_the_comparison_repeats_the_comparison(tmp_path: Path) -> None:
    """The list approved meanwhile is what the new list is compared with."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await _leave(table, "m1", *TEN[:5])
        held = table.runs()[-1]["run_id"]

        async def meanwhile() -> None:
            await table.store.review.approve(held, T3)

        outcome = await table.poll(TEN[:9], at=T2, now=T3, guard=SMALL, meanwhile=meanwhile)
        assert (outcome.added, outcome.removed) == (5, 1)
        assert table.members() == TEN[:9]
        table.check_figures()


async def test_a_pushed_unknown_user_becomes_a_member_once_known(tmp_path: Path) -> None:
    """The response counts members; a user known later enters without a message."""
    async with open_table(tmp_path) as table:
        assert await table.send("m1", "a", "b") == MessageAnswer()
        assert table.look("SELECT * FROM segments") == []
        await table.know({"b": [True]}, T2)
        assert table.members() == ["b"]
        assert table.changes() == [("b", "entered")]
        assert table.segment()["cohort_size"] == 2
        webhook, directory = table.runs()
        assert (webhook["unknown_users"], webhook["added"]) == (2, 0)
        assert (directory["source"], directory["added"]) == ("directory", 1)


async def test_a_message_without_ids_does_no_harm(tmp_path: Path) -> None:
    """Anonymous users of a cohort are counted with their run."""
    async with open_table(tmp_path) as table:
        assert await table.send("m1", empty_ids=3) == MessageAnswer()
        assert [(run["members"], run["empty_ids"]) for run in table.runs()] == [(0, 3)]
        table.check_figures()


async def test_messages_of_one_computation_are_one_run(tmp_path: Path) -> None:
    """A computation in a thousand messages is one run with the summed counts."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.send("m1", "a", "x")
        await table.send("m2", "b", "y")
        await table.send("m3", "a", is_entering=False)
        (run,) = table.runs()
        assert (run["state"], run["source"]) == ("applied", "webhook")
        assert (run["members"], run["added"], run["removed"], run["unknown_users"]) == (5, 2, 1, 2)
