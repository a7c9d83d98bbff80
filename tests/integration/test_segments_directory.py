"""The directory, and how segments follow it without a download."""

from pathlib import Path
from typing import Any

import pytest

from relay.onesignal.export_file import SubscriptionRow
from tests.support.segment_tables import APP, NOW, SECOND, SegmentFile, SegmentTable, open_table

T1, T2, T3, T4 = (NOW + step * 60 * SECOND for step in (1, 2, 3, 4))
CHANGES: dict[str, bool] = {"is_complete": False}


def _subscriptions(table: SegmentFile) -> dict[str, tuple[str, int]]:
    """Return owner and flag of every subscription."""
    rows = table.look("SELECT id, external_id, is_subscribed FROM subscriptions")
    return {id_: (owner, flag) for id_, owner, flag in rows}


def _users(table: SegmentFile) -> list[str]:
    return [user for (user,) in table.look("SELECT external_id FROM users ORDER BY 1")]


async def _put(table: SegmentTable, user: str, at: int, **flags: bool) -> None:
    rows = [SubscriptionRow(user, id_, "iOSPush", flag) for id_, flag in flags.items()]
    await table.store.directory.put_user(table.store.cohorts.number(APP), user, rows, at)


async def test_an_export_is_authoritative_for_subscriptions(tmp_path: Path) -> None:
    """Missing subscriptions are removed; the user stays known, and a member."""
    async with open_table(tmp_path) as table:
        await table.apply_export(
            {"a": {"s1": True, "s2": True}, "b": {"s3": True}, "c": {"s4": True}},
            asked_at=NOW,
        )
        await table.poll(["a", "b", "c"])
        logged = table.changes()
        await table.apply_export({"a": {"s1": False}, "c": {"s4": True}}, asked_at=T1)
        assert _subscriptions(table) == {"s1": ("a", 0), "s4": ("c", 1)}
        assert table.members() == ["a", "b", "c"]
        found = table.segment()
        assert (found["matched_users"], found["subscribed_count"]) == (3, 1)
        assert table.changes() == logged
        table.check_figures()


@pytest.mark.parametrize("lost", ["a", "m", "z"])
async def test_subscriptions_missing_from_an_export_are_removed_everywhere(
    tmp_path: Path, lost: str
) -> None:
    """Also before the file's first user, after its last, and between two parts."""
    everybody = {user: {f"s-{user}": True} for user in "abcdefghmxyz"}
    async with open_table(tmp_path) as table:
        await table.apply_export(everybody, asked_at=NOW)
        left = {user: rows for user, rows in everybody.items() if user != lost}
        await table.apply_export(left, asked_at=T1)
        assert len(_subscriptions(table)) == len(everybody) - 1
        assert lost in _users(table)


async def test_a_partial_file_adds_and_updates_only(tmp_path: Path) -> None:
    """An import that is not complete removes nothing."""
    async with open_table(tmp_path) as table:
        await table.apply_export({"a": {"s1": True}, "b": {"s2": True}}, asked_at=NOW)
        await table.apply_export({"b": {"s2": False}, "c": {"s3": True}}, asked_at=T1, **CHANGES)
        assert _subscriptions(table) == {"s1": ("a", 1), "s2": ("b", 0), "s3": ("c", 1)}


async def test_a_replacing_file_is_authoritative_for_users(tmp_path: Path) -> None:
    """Missing users become unknown, leave, and enter again with the next file."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True], "c": [], "z": [False]})
        await table.poll(["a", "b", "c", "z"])
        await table.apply_export({"b": {"b/0": True}}, asked_at=T1, drops_users=True)
        assert (_users(table), table.members()) == (["b"], ["b"])
        assert table.segment()["cohort_size"] == 4
        table.check_figures()
        await table.apply_export(
            {"a": {"a/0": True}, "b": {"b/0": True}},
            asked_at=T2,
            drops_users=True,
        )
        assert table.members() == ["a", "b"]
        logged = table.changes()
        assert sorted(logged[4:7]) == [("a", "left"), ("c", "left"), ("z", "left")]
        assert logged[7:] == [("a", "entered")]
        table.check_figures()


async def test_a_user_put_since_stays_when_a_file_replaces(tmp_path: Path) -> None:
    """A file says nothing about later changes."""
    async with open_table(tmp_path) as table:
        await table.know({"old": [True]})
        await _put(table, "new", T3, s9=True)
        await table.apply_export({"old": {"old/0": True}}, asked_at=T2, drops_users=True)
        assert _users(table) == ["new", "old"]
        assert _subscriptions(table)["s9"] == ("new", 1)


@pytest.mark.parametrize(("former", "owner"), [("a", "z"), ("z", "a")])
@pytest.mark.parametrize("way", ["export", "file", "event", "app"])
async def test_a_subscription_moves_to_its_new_user(
    tmp_path: Path, former: str, owner: str, way: str
) -> None:
    """A device logs in as another user; no user is counted twice."""
    async with open_table(tmp_path) as table:
        await table.apply_export({former: {"s": True}, "m": {"t": True}}, asked_at=NOW)
        await table.poll(["a", "m", "z"])
        rows = {owner: {"s": True}, "m": {"t": True}}
        if way == "event":
            await table.observe_event(owner, "s", at=T1)
        elif way == "app":
            await _put(table, owner, T1, s=True)
        else:
            await table.apply_export(rows, asked_at=T1, is_complete=way == "export")
        assert _subscriptions(table) == {"s": (owner, 1), "t": ("m", 1)}
        assert table.members() == ["a", "m", "z"]
        assert table.segment()["subscribed_count"] == 2
        table.check_figures()


@pytest.mark.parametrize(("asked_at", "flag"), [(T1, 0), (T3, 1)])
@pytest.mark.parametrize("is_complete", [True, False])
async def test_the_newer_of_an_event_and_an_export_wins(
    tmp_path: Path, asked_at: int, flag: int, *, is_complete: bool
) -> None:
    """An export takes minutes; an unsubscribe meanwhile counts."""
    async with open_table(tmp_path) as table:
        await table.apply_export({"a": {"s": True}}, asked_at=NOW)
        await table.poll(["a"])
        await table.observe_event("a", "s", at=T2, flag=False, is_proof=True)
        assert table.segment()["subscribed_count"] == 0
        assert table.segment()["matched_users"] == 1
        await table.apply_export({"a": {"s": True}}, asked_at=asked_at, is_complete=is_complete)
        assert _subscriptions(table) == {"s": ("a", flag)}
        assert table.segment()["subscribed_count"] == flag
        table.check_figures()


async def test_a_late_event_does_not_override_a_newer_export(tmp_path: Path) -> None:
    """Events may arrive hours late."""
    async with open_table(tmp_path) as table:
        await table.apply_export({"a": {"s": True}}, asked_at=T2)
        await table.observe_event("a", "s", at=T1, flag=False, is_proof=True)
        assert _subscriptions(table) == {"s": ("a", 1)}
        await table.observe_event("a", "s", at=T3, flag=False, is_proof=True)
        assert _subscriptions(table) == {"s": ("a", 0)}


@pytest.mark.parametrize(("asked_at", "is_there"), [(T1, True), (T3, False)])
async def test_a_subscription_of_an_event_stays_until_a_newer_export_lacks_it(
    tmp_path: Path, asked_at: int, *, is_there: bool
) -> None:
    """It is either younger than the export or gone; its user is known either way."""
    async with open_table(tmp_path) as table:
        await table.observe_event("a", "s", at=T2)
        assert _subscriptions(table) == {"s": ("a", 1)}
        await table.apply_export({"b": {"t": True}}, asked_at=asked_at)
        assert ("s" in _subscriptions(table)) is is_there
        assert _users(table) == ["a", "b"]


async def test_an_event_older_than_the_export_proves_its_user_alone(tmp_path: Path) -> None:
    """The export would contain the subscription if it still existed."""
    async with open_table(tmp_path) as table:
        await table.poll(["a"])
        await table.apply_export({"b": {"t": True}}, asked_at=T2)
        await table.observe_event("a", "s", at=T1)
        assert _users(table) == ["a", "b"]
        assert list(_subscriptions(table)) == ["t"]
        assert table.members() == ["a"]


@pytest.mark.parametrize(("asked_at", "wanted"), [(T1, {"s": ("a", 0)}), (T3, {"t": ("a", 1)})])
async def test_the_newer_of_a_put_and_an_export_wins(
    tmp_path: Path, asked_at: int, wanted: dict[str, Any]
) -> None:
    """An app knows of a change before OneSignal's next export."""
    async with open_table(tmp_path) as table:
        await table.apply_export({"a": {"t": True}}, asked_at=NOW)
        await _put(table, "a", T2, s=False)
        assert _subscriptions(table) == {"s": ("a", 0)}
        await table.apply_export({"a": {"t": True}}, asked_at=asked_at)
        assert {id_: row for id_, row in _subscriptions(table).items() if id_ in wanted} == wanted


async def test_a_put_replaces_all_subscriptions_of_the_user(tmp_path: Path) -> None:
    """It replaces that user's subscriptions and no other's."""
    async with open_table(tmp_path) as table:
        await table.apply_export({"a": {"s": True, "t": True}, "b": {"u": True}}, asked_at=NOW)
        await table.poll(["a", "b"])
        await _put(table, "a", T1, t=False)
        assert _subscriptions(table) == {"t": ("a", 0), "u": ("b", 1)}
        assert table.segment()["subscribed_count"] == 1
        table.check_figures()


async def test_an_event_without_a_user_changes_only_known_subscriptions(tmp_path: Path) -> None:
    """No user becomes known by it, and no flag is lost."""
    async with open_table(tmp_path) as table:
        await table.apply_export({"a": {"s": True}}, asked_at=NOW)
        for id_ in ("s", "never-seen"):
            await table.observe_event(None, id_, at=T1, flag=False, is_proof=True)
        assert _subscriptions(table) == {"s": ("a", 0)}
        assert _users(table) == ["a"]


async def test_a_late_user_enters_without_a_download(tmp_path: Path) -> None:
    """The list keeps unknown users too; the segment follows in the same step."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a", "late", "never"])
        before = table.segment()
        await table.observe_event("late", "s", at=T1)
        assert table.members() == ["a", "late"]
        found = table.segment()
        assert (found["revision"], found["applied_at"]) == (before["revision"] + 1, T1)
        assert (found["cohort_size"], found["computed_at"]) == (3, before["computed_at"])
        run = table.runs()[-1]
        assert (run["source"], run["state"], run["added"]) == ("directory", "applied", 1)
        (row,) = table.look("SELECT * FROM segment_changes WHERE external_id = 'late'")
        assert row[1:] == (APP, "c1", "late", "entered", run["run_id"], T1)
        table.check_figures()


async def test_a_segment_appears_with_its_first_matched_user(tmp_path: Path) -> None:
    """A cohort without a known user is no segment yet."""
    async with open_table(tmp_path) as table:
        await table.poll(["a", "b"])
        assert table.look("SELECT * FROM segments") == []
        assert [run["state"] for run in table.runs()] == ["applied"]
        await table.know({"b": [True]}, T1)
        assert table.segment()["matched_users"] == 1
        assert table.changes() == [("b", "entered")]


async def test_what_happens_within_a_minute_is_one_run(tmp_path: Path) -> None:
    """A busy hour of events must not make thousands of runs."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a", "b", "c", "d"])
        for user, at in (("b", T1), ("c", T1 + 30 * SECOND), ("d", T3)):
            await table.observe_event(user, f"s-{user}", at=at)
        assert [(run["source"], run["added"]) for run in table.runs()] == [
            ("poll", 1),
            ("directory", 2),
            ("directory", 1),
        ]


async def test_one_change_moves_every_segment_of_its_app_and_no_other(tmp_path: Path) -> None:
    """The same id in another app is another user."""
    async with open_table(tmp_path, apps=(APP, "other")) as table:
        await table.know({"a": [True]})
        for name in ("c1", "c2"):
            await table.poll(["a", "b"], cohort_id=name)
        await table.know({"b": [True]}, app="other")
        assert table.members() == table.members("c2") == ["a"]
        await table.know({"b": [True, False]})
        assert table.members() == table.members("c2") == ["a", "b"]
        table.check_figures()


async def test_the_directory_reports_its_size_and_age(tmp_path: Path) -> None:
    """Users, subscriptions, subscribed ones, and the last complete export."""
    async with open_table(tmp_path) as table:
        number = table.store.cohorts.number(APP)
        assert await table.store.directory.counts(number) == (0, 0, 0, 0, None)
        await table.know({"a": [True, False], "b": []})
        await table.apply_export({"c": {"s": True}}, asked_at=T1, **CHANGES)
        assert await table.store.directory.counts(number) == (3, 3, 2, 0, None)
        await table.apply_export({"c": {"s": True}}, asked_at=T2)
        assert await table.store.directory.counts(number) == (3, 1, 1, T2, T2 + SECOND)


async def test_a_repetition_costs_no_revision(tmp_path: Path) -> None:
    """Repeating an export, an event or a PUT changes nothing."""
    async with open_table(tmp_path) as table:
        await table.apply_export({"a": {"s": True}}, asked_at=NOW)
        await table.poll(["a"])
        before = table.segment()
        await table.apply_export({"a": {"s": True}}, asked_at=T1)
        await table.observe_event("a", "s", at=T2, flag=True, is_proof=True)
        await _put(table, "a", T3, s=True)
        assert table.segment() == before
        assert len(table.runs()) == 1
