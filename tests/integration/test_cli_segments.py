"""`relay segments`, with a daemon and without one."""

import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.command_line import CommandLine, ended
from tests.support.segment_tables import SegmentFile, open_table
from tests.unit.cli.filled import COHORT, EXPLANATION, OTHER, filled

WAYS = pytest.mark.parametrize("way", ["daemon", "alone"])

ODD_COHORT = "a/b c%2F.."
ODD_USER = "../ü \N{SNOWMAN}/%41"


async def output_of(relay: CommandLine, *words: str) -> str:
    """Return the output of a command that succeeds."""
    done = await relay.run("segments", *words)
    assert (done.code, done.err) == (0, "")
    return done.out


async def json_of(relay: CommandLine, *words: str) -> Any:  # noqa: ANN401  # whatever the command prints
    """Return the JSON a command prints."""
    return json.loads(await output_of(relay, *words, "--json"))


def ndjson(text: str) -> list[Any]:
    """Return the objects of NDJSON lines."""
    return [json.loads(line) for line in text.splitlines()]


@WAYS
async def test_segments_are_listed_by_app_and_state(tmp_path: Path, way: str) -> None:
    """The same with a daemon and without one."""
    async with filled(tmp_path, way) as relay:
        every = await json_of(relay, "list")
        assert [(one["cohort_id"], one["state"]) for one in every] == [
            (OTHER, "held"),
            (COHORT, "active"),
        ]
        assert (every[1]["matched_users"], every[1]["subscribed_count"]) == (4, 3)
        held = await json_of(relay, "list", "--app", "SHOP", "--state", "held")
        assert [one["cohort_id"] for one in held] == [OTHER]
        assert await json_of(relay, "list", "--state", "archived") == []
        table = (await output_of(relay, "list")).splitlines()
        assert [line.split()[:2] for line in table if "shop" in line] == [
            ["shop", OTHER],
            ["shop", COHORT],
        ]


@WAYS
async def test_a_segment_is_shown_whole(tmp_path: Path, way: str) -> None:
    """With the runs that can be undone and those that wait for a review."""
    async with filled(tmp_path, way) as relay:
        whole = await json_of(relay, "show", COHORT)
        assert whole["explanation"] == EXPLANATION
        assert [run["run_id"] for run in whole["undoable"]] == [3]
        shown = await output_of(relay, "show", OTHER)
        assert (
            "relay runs list --app shop --state held, then relay runs approve or reject RUN_ID"
            in shown
        )
        assert "can be undone: run 1 " in shown
        assert ("unknown, as no relay is running" in shown) == (way == "alone")


@WAYS
async def test_members_are_printed_a_line_each(tmp_path: Path, way: str) -> None:
    """As plain lines, or as NDJSON with the instants."""
    async with filled(tmp_path, way) as relay:
        assert (await output_of(relay, "members", COHORT)).split() == [
            "bare",
            "one",
            "silent",
            "two",
        ]
        lines = ndjson(await output_of(relay, "members", OTHER, "--json"))
        assert [(sorted(line), line["external_id"]) for line in lines] == [
            (["entered_at", "external_id"], "one"),
            (["entered_at", "external_id"], "two"),
        ]


@WAYS
async def test_an_explanation_has_numbers_that_add_up(tmp_path: Path, way: str) -> None:
    """Each with its meaning and the way to get the ids behind it."""
    async with filled(tmp_path, way) as relay:
        assert await json_of(relay, "explain", COHORT) == EXPLANATION
        shown = await output_of(relay, "explain", COHORT)
    assert "3 subscribed subscriptions: 6 of the cohort's 8 entries have none" in shown
    assert "relay segments explain --app shop 7khm89cz --list GROUP" in shown
    assert "of OneSignal's users no whole export was ever applied" in shown
    for line in ("- unknown_users", "--list GROUP, for restricted_ids, ", "= subscribed_users"):
        assert line in shown


@WAYS
@pytest.mark.parametrize(
    ("group", "ids"),
    [
        ("restricted_ids", ["NA"]),
        ("unknown_users", ["stranger"]),
        ("only_unsubscribed", ["silent"]),
        ("subscribed_users", ["one", "two"]),
    ],
)
async def test_the_ids_behind_a_number_are_printed(
    tmp_path: Path, way: str, group: str, ids: list[str]
) -> None:
    """So that they can be looked up in both services."""
    async with filled(tmp_path, way) as relay:
        assert (await output_of(relay, "explain", COHORT, "--list", group)).split() == ids
        lines = ndjson(await output_of(relay, "explain", COHORT, "--list", group, "--json"))
        assert [line["external_id"] for line in lines] == ids


@WAYS
@pytest.mark.parametrize(
    ("user", "is_member", "why"),
    [
        ("two", True, "OneSignal knows this External ID"),
        ("silent", True, "none is subscribed, so the segment's count leaves the user out"),
        ("stranger", False, "OneSignal knows no user with this External ID"),
        ("NA", False, "OneSignal refuses this id as an External ID"),
        ("nobody", False, "Amplitude does not list the user in this cohort"),
    ],
)
async def test_one_user_s_membership_is_explained(
    tmp_path: Path, way: str, user: str, why: str, *, is_member: bool
) -> None:
    """Also that of an unknown user."""
    async with filled(tmp_path, way) as relay:
        counts = await json_of(relay, "explain", COHORT, "--user", user)
        assert counts["is_member"] is is_member
        assert why in await output_of(relay, "explain", COHORT, "--user", user)


@WAYS
async def test_changes_are_followed_from_a_number(tmp_path: Path, way: str) -> None:
    """Oldest first, all of them."""
    async with filled(tmp_path, way) as relay:
        lines = ndjson(await output_of(relay, "changes", COHORT, "--json"))
        assert sorted(line["external_id"] for line in lines) == ["bare", "one", "silent", "two"]
        last = lines[-1]
        assert await output_of(relay, "changes", COHORT, "--after", str(last["seq"])) == ""
        before = str(last["seq"] - 1)
        (line,) = (await output_of(relay, "changes", COHORT, "--after", before)).splitlines()
        assert line.split()[0] == str(last["seq"])
        assert line.split()[-2:] == ["entered", last["external_id"]]


@WAYS
@pytest.mark.parametrize("verb", ["show", "members", "changes", "explain", "rollback"])
async def test_an_unknown_cohort_is_an_error(tmp_path: Path, way: str, verb: str) -> None:
    """Nothing is printed that could pass for an empty segment."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run("segments", verb, "nonsense")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("relay: ")


@WAYS
async def test_a_run_is_undone(tmp_path: Path, way: str) -> None:
    """Without a terminal there is no question; the former members are back."""
    async with filled(tmp_path, "alone") as relay:
        async with open_table(relay.folder) as table:
            await table.send("m1", "silent", cohort_id=OTHER, computed_at=2**41)
        assert table.members(OTHER) == ["one", "silent", "two"]
        if way == "alone":
            done = await relay.run("segments", "rollback", OTHER)
        else:
            async with relay.serving():
                done = await relay.run("segments", "rollback", OTHER)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("the last run of b1d undone: revision 3 has 2 members;")
        assert table.members(OTHER) == ["one", "two"]


async def test_a_pruned_revision_cannot_be_restored(tmp_path: Path) -> None:
    """The error says so."""
    async with filled(tmp_path, "alone") as relay:
        done = await relay.run("segments", "rollback", COHORT, "--to", "99")
    assert (done.code, done.out) == (1, "")
    assert "nothing kept that could be undone" in done.err


async def test_at_a_terminal_a_rollback_is_asked_about(tmp_path: Path) -> None:
    """No cancels it."""
    person, terminal = os.openpty()
    async with filled(tmp_path, "alone") as relay:
        command = await relay.start("segments", "rollback", COHORT, stdin=terminal)
        async with command:
            assert command.stderr is not None
            with anyio.fail_after(20):
                asked = b""
                while b"?" not in asked:
                    asked += await command.stderr.receive()
            os.write(person, b"n\n")
            assert await ended(command) == 1
        assert len(SegmentFile(relay.folder).members(COHORT)) == 4
    os.close(person)
    os.close(terminal)


async def test_a_sync_needs_the_daemon(tmp_path: Path) -> None:
    """Only the daemon polls."""
    relay = CommandLine(tmp_path)
    done = await relay.run("segments", "sync", COHORT)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"relay: no relay is running on {relay.admin.removeprefix('http://')}\n"


async def test_a_sync_without_a_secret_key_is_rejected(tmp_path: Path) -> None:
    """The error names the setting."""
    async with filled(tmp_path, "daemon") as relay:
        done = await relay.run("segments", "sync", COHORT)
    assert (done.code, done.out) == (1, "")
    assert "RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY" in done.err


async def test_without_a_table_lists_are_empty_and_create_nothing(tmp_path: Path) -> None:
    """Reading does not create a data directory."""
    relay = CommandLine(tmp_path)
    assert await json_of(relay, "list") == []
    assert (await output_of(relay, "list")).startswith("no segments; ")
    assert (await relay.run("segments", "show", COHORT)).code == 1
    assert not relay.folder.exists()


@pytest.mark.parametrize("words", [("segments",), ("runs",), ("dead-letters",), ("quarantine",)])
@pytest.mark.parametrize("below", ["", "deeper"])
async def test_a_data_directory_that_is_a_file_is_an_error(
    tmp_path: Path, words: tuple[str, ...], below: str
) -> None:
    """An empty list would suggest that all is well."""
    file = tmp_path / "file"
    file.write_text("no folder", "utf-8")
    done = await CommandLine(tmp_path).run(*words, "list", RELAY_DATA_DIR=str(file / below))
    assert (done.code, done.out) == (1, "")
    assert f"{file} is no folder" in done.err


@WAYS
async def test_ids_may_hold_anything(tmp_path: Path, way: str) -> None:
    """Slashes, dots and percent signs reach the daemon unchanged."""
    async with filled(tmp_path, "alone") as relay:
        async with open_table(relay.folder) as table:
            await table.know({ODD_USER: [True]})
            await table.poll([ODD_USER], cohort_id=ODD_COHORT)
        if way == "alone":
            assert await output_of(relay, "members", ODD_COHORT) == f"{ODD_USER}\n"
        else:
            async with relay.serving():
                assert await output_of(relay, "members", ODD_COHORT) == f"{ODD_USER}\n"
                counts = await json_of(relay, "explain", ODD_COHORT, "--user", ODD_USER)
                assert counts["is_member"] is True


@pytest.mark.parametrize(
    "words",
    [
        ("explain", COHORT, "--list", "everybody"),
        ("explain", COHORT, "--list", "unknown_users", "--user", "one"),
        ("list", "--state", "odd"),
        ("changes", COHORT, "--after", "-1"),
    ],
)
async def test_wrong_usage_is_reported(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Before any database is opened."""
    assert (await CommandLine(tmp_path).run("segments", *words)).code == 2


async def test_an_unknown_app_is_named_with_the_configured_ones(tmp_path: Path) -> None:
    """With several apps one must be named."""
    relay = CommandLine(tmp_path)
    relay.add_app("blog")
    done = await relay.run("segments", "show", COHORT, "--app", "nobody")
    assert (done.code, done.err) == (
        1,
        "relay: no app 'nobody' is configured; there are: blog, shop\n",
    )
    refused = await relay.run("segments", "show", COHORT)
    assert refused.code == 2
    assert "blog, shop" in refused.err
