"""`relay runs`: lists work without a daemon, reviews need one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.segment_tables import SegmentFile
from tests.unit.cli.filled import COHORT, OTHER, filled

WAYS = pytest.mark.parametrize("way", ["daemon", "alone"])

HELD_RUN = "2"


async def listed(relay: CommandLine, *words: str) -> list[Any]:
    """Return the runs in a printed list."""
    done = await relay.run("runs", "list", "--json", *words)
    assert (done.code, done.err) == (0, "")
    items: list[Any] = json.loads(done.out)
    return items


@WAYS
async def test_runs_are_listed_newest_first(tmp_path: Path, way: str) -> None:
    """By cohort, state and limit, the same with a daemon and without one."""
    async with filled(tmp_path, way) as relay:
        assert [run["run_id"] for run in await listed(relay)] == [3, 2, 1]
        assert [run["run_id"] for run in await listed(relay, "--cohort", COHORT)] == [3]
        assert [run["run_id"] for run in await listed(relay, "--limit", "2")] == [3, 2]
        (held,) = await listed(relay, "--app", "shop", "--state", "held")
        assert (held["run_id"], held["cohort_id"]) == (2, OTHER)
        assert "1 of 2 members would leave" in held["reason"]


async def test_a_table_says_when_there_is_more(tmp_path: Path) -> None:
    """And why a run is held."""
    async with filled(tmp_path, "alone") as relay:
        done = await relay.run("runs", "list", "--cohort", OTHER, "--limit", "1")
    assert (done.code, done.err) == (0, "there are more; --limit 1 ends the list here\n")
    assert (
        "run 2 held: 1 of 2 members would leave, more than 20 %; approve or reject it" in done.out
    )


async def test_a_held_run_is_approved(tmp_path: Path) -> None:
    """The downloaded list is applied."""
    async with filled(tmp_path, "daemon") as relay:
        done = await relay.run("runs", "approve", HELD_RUN)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("run 2 is applied; ")
        assert SegmentFile(relay.folder).members(OTHER) == ["one"]
        again = await relay.run("runs", "approve", HELD_RUN)
    assert (again.code, again.out) == (1, "")
    assert again.err == "relay: run 2 is applied, not held\n"


async def test_a_held_run_is_rejected(tmp_path: Path) -> None:
    """The segment stays unchanged."""
    async with filled(tmp_path, "daemon") as relay:
        done = await relay.run("runs", "reject", HELD_RUN)
        assert (done.code, done.err) == (0, "")
        assert SegmentFile(relay.folder).members(OTHER) == ["one", "two"]
        (rejected,) = await listed(relay, "--state", "rejected")
        assert rejected["run_id"] == 2
        unknown = await relay.run("runs", "reject", "99")
    assert (unknown.code, unknown.err) == (1, "relay: there is no run 99\n")


@pytest.mark.parametrize("verb", ["approve", "reject"])
async def test_a_review_needs_the_daemon(tmp_path: Path, verb: str) -> None:
    """The error says so."""
    relay = CommandLine(tmp_path)
    done = await relay.run("runs", verb, HELD_RUN)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"relay: no relay is running on {relay.admin.removeprefix('http://')}\n"


async def test_without_a_table_there_are_no_runs_and_nothing_is_created(tmp_path: Path) -> None:
    """Listing does not create a data directory."""
    relay = CommandLine(tmp_path)
    assert await listed(relay) == []
    done = await relay.run("runs", "list")
    assert (done.code, done.out, done.err) == (0, "no runs\n", "")
    assert not relay.folder.exists()
