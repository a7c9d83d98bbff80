"""The directory, and how segments follow it without a download."""

from pathlib import Path
from typing import Any

import pytest

from relay.directory.export_file import SubscriptionRow
from relay.segments.segments import Segments
from tests.support.segment_tables import (
    APP,
    NOW,
    SECOND,
    changes,
    counted,
    know,
    look,
    members,
    open_table,
    poll,
    runs,
    see_event,
    segment,
    take_export,
)

T1, T2, T3, T4 = (NOW + step * 60 * SECOND for step in (1, 2, 3, 4))
CHANGES: dict[str, bool] = {"is_whole": False}


def _subscriptions(folder: Path) -> dict[str, tuple[str, int]]:
    """Return owner and flag of every subscription."""
    rows = look(folder, "SELECT id, external_id, is_subscribed FROM subscriptions")
    return {id_: (owner, flag) for id_, owner, flag in rows}


def _users(folder: Path) -> list[str]:
    return [user for (user,) in look(folder, "SELECT external_id FROM users ORDER BY 1")]


async def _put(segments: Segments, user: str, at: int, **flags: bool) -> None:
    rows = [SubscriptionRow(user, id_, "iOSPush", flag) for id_, flag in flags.items()]
    await segments.directory.put_user(segments.catalog.number(APP), user, rows, at)


async def test_an_export_is_the_whole_truth_about_subscriptions(tmp_path: Path) -> None:
    """What it lacks is gone; the user stays known, and a member."""
    async with open_table(tmp_path) as segments:
        await take_export(
            segments,
            tmp_path,
            {"a": {"s1": True, "s2": True}, "b": {"s3": True}, "c": {"s4": True}},
            asked_at=NOW,
        )
        await poll(segments, tmp_path, ["a", "b", "c"])
        told = changes(tmp_path)
        await take_export(segments, tmp_path, {"a": {"s1": False}, "c": {"s4": True}}, asked_at=T1)
        assert _subscriptions(tmp_path) == {"s1": ("a", 0), "s4": ("c", 1)}
        assert members(tmp_path) == ["a", "b", "c"]
        found = segment(tmp_path)
        assert (found["matched_users"], found["subscribed_count"]) == (3, 1)
        assert changes(tmp_path) == told
        counted(tmp_path)


@pytest.mark.parametrize("lost", ["a", "m", "z"])
async def test_what_an_export_lacks_is_gone_wherever_it_stood(tmp_path: Path, lost: str) -> None:
    """Also before the file's first user, behind its last, and between two parts."""
    everybody = {user: {f"s-{user}": True} for user in "abcdefghmxyz"}
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, everybody, asked_at=NOW)
        left = {user: rows for user, rows in everybody.items() if user != lost}
        await take_export(segments, tmp_path, left, asked_at=T1)
        assert len(_subscriptions(tmp_path)) == len(everybody) - 1
        assert lost in _users(tmp_path)


async def test_a_partial_file_adds_and_updates_only(tmp_path: Path) -> None:
    """An import that is not said to be everything takes nothing away."""
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, {"a": {"s1": True}, "b": {"s2": True}}, asked_at=NOW)
        await take_export(
            segments, tmp_path, {"b": {"s2": False}, "c": {"s3": True}}, asked_at=T1, **CHANGES
        )
        assert _subscriptions(tmp_path) == {"s1": ("a", 1), "s2": ("b", 0), "s3": ("c", 1)}


async def test_a_file_that_replaces_is_the_whole_truth_about_users(tmp_path: Path) -> None:
    """Who is not in it is not known any more, leaves, and enters again with the next file."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True], "b": [True], "c": [], "z": [False]})
        await poll(segments, tmp_path, ["a", "b", "c", "z"])
        await take_export(segments, tmp_path, {"b": {"b/0": True}}, asked_at=T1, drops_users=True)
        assert (_users(tmp_path), members(tmp_path)) == (["b"], ["b"])
        assert segment(tmp_path)["cohort_size"] == 4
        counted(tmp_path)
        await take_export(
            segments,
            tmp_path,
            {"a": {"a/0": True}, "b": {"b/0": True}},
            asked_at=T2,
            drops_users=True,
        )
        assert members(tmp_path) == ["a", "b"]
        told = changes(tmp_path)
        assert sorted(told[4:7]) == [("a", "left"), ("c", "left"), ("z", "left")]
        assert told[7:] == [("a", "entered")]
        counted(tmp_path)


async def test_a_user_the_app_told_of_since_stays_when_a_file_replaces(tmp_path: Path) -> None:
    """A file says nothing of what happened after it was made."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"old": [True]})
        await _put(segments, "new", T3, s9=True)
        await take_export(
            segments, tmp_path, {"old": {"old/0": True}}, asked_at=T2, drops_users=True
        )
        assert _users(tmp_path) == ["new", "old"]
        assert _subscriptions(tmp_path)["s9"] == ("new", 1)


@pytest.mark.parametrize(("former", "owner"), [("a", "z"), ("z", "a")])
@pytest.mark.parametrize("way", ["export", "file", "event", "app"])
async def test_a_subscription_moves_to_its_new_user(
    tmp_path: Path, former: str, owner: str, way: str
) -> None:
    """A device logs in as somebody else; nobody is counted twice."""
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, {former: {"s": True}, "m": {"t": True}}, asked_at=NOW)
        await poll(segments, tmp_path, ["a", "m", "z"])
        rows = {owner: {"s": True}, "m": {"t": True}}
        if way == "event":
            await see_event(segments, owner, "s", at=T1)
        elif way == "app":
            await _put(segments, owner, T1, s=True)
        else:
            await take_export(segments, tmp_path, rows, asked_at=T1, is_whole=way == "export")
        assert _subscriptions(tmp_path) == {"s": (owner, 1), "t": ("m", 1)}
        assert members(tmp_path) == ["a", "m", "z"]
        assert segment(tmp_path)["subscribed_count"] == 2
        counted(tmp_path)


@pytest.mark.parametrize(("asked_at", "flag"), [(T1, 0), (T3, 1)])
@pytest.mark.parametrize("is_whole", [True, False])
async def test_of_an_event_and_an_export_the_newer_counts(
    tmp_path: Path, asked_at: int, flag: int, *, is_whole: bool
) -> None:
    """An export takes minutes; who unsubscribed meanwhile has unsubscribed."""
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, {"a": {"s": True}}, asked_at=NOW)
        await poll(segments, tmp_path, ["a"])
        await see_event(segments, "a", "s", at=T2, flag=False, is_proof=True)
        assert segment(tmp_path)["subscribed_count"] == 0
        assert segment(tmp_path)["matched_users"] == 1
        await take_export(
            segments, tmp_path, {"a": {"s": True}}, asked_at=asked_at, is_whole=is_whole
        )
        assert _subscriptions(tmp_path) == {"s": ("a", flag)}
        assert segment(tmp_path)["subscribed_count"] == flag
        counted(tmp_path)


async def test_a_late_event_does_not_outdo_a_newer_export(tmp_path: Path) -> None:
    """Events arrive hours late at times."""
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, {"a": {"s": True}}, asked_at=T2)
        await see_event(segments, "a", "s", at=T1, flag=False, is_proof=True)
        assert _subscriptions(tmp_path) == {"s": ("a", 1)}
        await see_event(segments, "a", "s", at=T3, flag=False, is_proof=True)
        assert _subscriptions(tmp_path) == {"s": ("a", 0)}


@pytest.mark.parametrize(("asked_at", "is_there"), [(T1, True), (T3, False)])
async def test_a_subscription_learnt_from_an_event_stays_until_a_newer_export_lacks_it(
    tmp_path: Path, asked_at: int, *, is_there: bool
) -> None:
    """It is younger than the export, or it is gone; its user is known either way."""
    async with open_table(tmp_path) as segments:
        await see_event(segments, "a", "s", at=T2)
        assert _subscriptions(tmp_path) == {"s": ("a", 1)}
        await take_export(segments, tmp_path, {"b": {"t": True}}, asked_at=asked_at)
        assert ("s" in _subscriptions(tmp_path)) is is_there
        assert _users(tmp_path) == ["a", "b"]


async def test_an_event_older_than_the_export_proves_its_user_alone(tmp_path: Path) -> None:
    """The export would have shown the subscription, if it still were one."""
    async with open_table(tmp_path) as segments:
        await poll(segments, tmp_path, ["a"])
        await take_export(segments, tmp_path, {"b": {"t": True}}, asked_at=T2)
        await see_event(segments, "a", "s", at=T1)
        assert _users(tmp_path) == ["a", "b"]
        assert list(_subscriptions(tmp_path)) == ["t"]
        assert members(tmp_path) == ["a"]


@pytest.mark.parametrize(("asked_at", "wanted"), [(T1, {"s": ("a", 0)}), (T3, {"t": ("a", 1)})])
async def test_of_the_app_s_word_and_an_export_the_newer_counts(
    tmp_path: Path, asked_at: int, wanted: dict[str, Any]
) -> None:
    """An app hears of a change before OneSignal's next export does."""
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, {"a": {"t": True}}, asked_at=NOW)
        await _put(segments, "a", T2, s=False)
        assert _subscriptions(tmp_path) == {"s": ("a", 0)}
        await take_export(segments, tmp_path, {"a": {"t": True}}, asked_at=asked_at)
        assert {
            id_: row for id_, row in _subscriptions(tmp_path).items() if id_ in wanted
        } == wanted


async def test_the_app_s_word_is_all_subscriptions_of_the_user(tmp_path: Path) -> None:
    """It replaces what was known of that user and of nobody else."""
    async with open_table(tmp_path) as segments:
        await take_export(
            segments, tmp_path, {"a": {"s": True, "t": True}, "b": {"u": True}}, asked_at=NOW
        )
        await poll(segments, tmp_path, ["a", "b"])
        await _put(segments, "a", T1, t=False)
        assert _subscriptions(tmp_path) == {"t": ("a", 0), "u": ("b", 1)}
        assert segment(tmp_path)["subscribed_count"] == 1
        counted(tmp_path)


async def test_an_event_without_a_user_tells_of_known_subscriptions_only(tmp_path: Path) -> None:
    """Nobody becomes known by it, and no flag is lost."""
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, {"a": {"s": True}}, asked_at=NOW)
        for id_ in ("s", "never-seen"):
            await see_event(segments, None, id_, at=T1, flag=False, is_proof=True)
        assert _subscriptions(tmp_path) == {"s": ("a", 0)}
        assert _users(tmp_path) == ["a"]


async def test_a_late_user_enters_without_a_download(tmp_path: Path) -> None:
    """The list is kept, also whom nobody knew; the segment follows in the same step."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, ["a", "late", "never"])
        before = segment(tmp_path)
        await see_event(segments, "late", "s", at=T1)
        assert members(tmp_path) == ["a", "late"]
        found = segment(tmp_path)
        assert (found["revision"], found["applied_at"]) == (before["revision"] + 1, T1)
        assert (found["cohort_size"], found["computed_at"]) == (3, before["computed_at"])
        run = runs(tmp_path)[-1]
        assert (run["source"], run["state"], run["added"]) == ("directory", "applied", 1)
        (row,) = look(tmp_path, "SELECT * FROM segment_changes WHERE external_id = 'late'")
        assert row[1:] == (APP, "c1", "late", "entered", run["run_id"], T1)
        counted(tmp_path)


async def test_a_segment_appears_with_its_first_matched_user(tmp_path: Path) -> None:
    """A cohort nobody of is known is no segment yet."""
    async with open_table(tmp_path) as segments:
        await poll(segments, tmp_path, ["a", "b"])
        assert look(tmp_path, "SELECT * FROM segments") == []
        assert [run["state"] for run in runs(tmp_path)] == ["applied"]
        await know(segments, {"b": [True]}, T1)
        assert segment(tmp_path)["matched_users"] == 1
        assert changes(tmp_path) == [("b", "entered")]


async def test_what_happens_within_a_minute_is_one_run(tmp_path: Path) -> None:
    """A busy hour of events is no thousand runs."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, ["a", "b", "c", "d"])
        for user, at in (("b", T1), ("c", T1 + 30 * SECOND), ("d", T3)):
            await see_event(segments, user, f"s-{user}", at=at)
        assert [(run["source"], run["added"]) for run in runs(tmp_path)] == [
            ("poll", 1),
            ("directory", 2),
            ("directory", 1),
        ]


async def test_one_change_moves_every_segment_of_its_app_and_no_other(tmp_path: Path) -> None:
    """The same id of another app is another person."""
    async with open_table(tmp_path, apps=(APP, "other")) as segments:
        await know(segments, {"a": [True]})
        for name in ("c1", "c2"):
            await poll(segments, tmp_path, ["a", "b"], cohort_id=name)
        await know(segments, {"b": [True]}, app="other")
        assert members(tmp_path) == members(tmp_path, "c2") == ["a"]
        await know(segments, {"b": [True, False]})
        assert members(tmp_path) == members(tmp_path, "c2") == ["a", "b"]
        counted(tmp_path)


async def test_the_directory_tells_its_size_and_age(tmp_path: Path) -> None:
    """Users, subscriptions, subscribed ones, and the last whole export."""
    async with open_table(tmp_path) as segments:
        number = segments.catalog.number(APP)
        assert await segments.directory.counts(number) == (0, 0, 0, 0, None)
        await know(segments, {"a": [True, False], "b": []})
        await take_export(segments, tmp_path, {"c": {"s": True}}, asked_at=T1, **CHANGES)
        assert await segments.directory.counts(number) == (3, 3, 2, 0, None)
        await take_export(segments, tmp_path, {"c": {"s": True}}, asked_at=T2)
        assert await segments.directory.counts(number) == (3, 1, 1, T2, T2 + SECOND)


async def test_known_news_costs_no_revision(tmp_path: Path) -> None:
    """The same export, the same event and the same word again change nothing."""
    async with open_table(tmp_path) as segments:
        await take_export(segments, tmp_path, {"a": {"s": True}}, asked_at=NOW)
        await poll(segments, tmp_path, ["a"])
        before = segment(tmp_path)
        await take_export(segments, tmp_path, {"a": {"s": True}}, asked_at=T1)
        await see_event(segments, "a", "s", at=T2, flag=True, is_proof=True)
        await _put(segments, "a", T3, s=True)
        assert segment(tmp_path) == before
        assert len(runs(tmp_path)) == 1
