"""`relay dead-letters` and `relay quarantine`, with a daemon and without one."""

import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from relay.events.batch import IngestBatch, QuarantinedBody
from relay.outbox.claims import DeadLettered, Settlement
from relay.outbox.store import Outbox
from tests.support.command_line import CommandLine, ended
from tests.support.outboxes import append, mapped, running_outbox, waiting
from tests.support.segment_tables import SegmentFile
from tests.unit.events.bodies import PUSH_CLICKED

OLD_MS = 1_700_000_000_000
"""More than 7 days ago."""

ESCAPE = "\x1b[31m"

WAYS = pytest.mark.parametrize("way", ["daemon", "alone"])
NOUNS = pytest.mark.parametrize("noun", ["dead-letters", "quarantine"])


async def append_dead_letters(outbox: Outbox, *ids: str, reason: str, app: str = "shop") -> None:
    """Append dead letters that were first tried long ago."""
    await append(outbox, *map(mapped, ids), app=app)
    events = await waiting(outbox, app)
    claim = await outbox.claims.open(outbox.counters.number(app), events, OLD_MS)
    tried = [event._replace(first_tried_at=OLD_MS, attempts=1) for event in events]
    deaths = [DeadLettered(event, reason, f"400 {ESCAPE}[bold]refused") for event in tried]
    await outbox.claims.settle(claim, Settlement(dead=deaths), OLD_MS)


async def quarantine(
    outbox: Outbox, *bodies: bytes, reason: str, app: str = "shop", webhook: str = "events"
) -> None:
    """Append quarantined bodies."""
    batch = IngestBatch(outbox.counters.number(app), OLD_MS)
    batch.quarantined += [QuarantinedBody(webhook, reason, "Why.", body) for body in bodies]
    await outbox.writer.append(batch)


async def fill(relay: CommandLine, cohort_message: bytes | None = None) -> None:
    """Add three dead letters and three quarantined bodies, two of them `bad`."""
    async with running_outbox(relay.folder, ["shop"]) as outbox:
        await append_dead_letters(outbox, "a", "b", reason="bad")
        await append_dead_letters(outbox, "c", reason="worse")
        await quarantine(outbox, b"{not json", b"\xff\xfe", reason="bad")
        await quarantine(outbox, json.dumps(PUSH_CLICKED).encode(), reason="worse")
        if cohort_message:
            await quarantine(outbox, cohort_message, reason="worse", webhook="cohorts")


@asynccontextmanager
async def filled(
    tmp_path: Path, way: str, cohort_message: bytes | None = None
) -> AsyncIterator[CommandLine]:
    """Return a filled outbox, with a daemon or without one."""
    relay = CommandLine(tmp_path, RELAY_ADMIN_TOKEN="token-of-the-admin-door")
    await fill(relay, cohort_message)
    if way == "alone":
        yield relay
        return
    async with relay.serving():
        yield relay


async def ids(relay: CommandLine, noun: str, *words: str) -> list[int]:
    """Return the ids in a printed list."""
    done = await relay.run(noun, "list", "--json", *words)
    assert (done.code, done.err) == (0, "")
    return [item["id"] for item in json.loads(done.out)]


@WAYS
@NOUNS
async def test_items_are_listed_by_app_reason_and_limit(
    tmp_path: Path, noun: str, way: str
) -> None:
    """The same with a daemon and without one."""
    async with filled(tmp_path, way) as relay:
        assert await ids(relay, noun) == [1, 2, 3]
        assert await ids(relay, noun, "--app", "SHOP", "--reason", "bad") == [1, 2]
        assert await ids(relay, noun, "--reason", "no such") == []
        assert await ids(relay, noun, "--limit", "1") == [1]


@NOUNS
async def test_a_table_shows_no_more_than_it_is_asked_for(tmp_path: Path, noun: str) -> None:
    """It says when there is more; no stored text controls the terminal."""
    async with filled(tmp_path, "alone") as relay:
        done = await relay.run(noun, "list", "--limit", "2")
        assert (done.code, done.err) == (0, "there are more; --limit 2 ends the list here\n")
        assert done.out.count("bad") == 2
        assert ESCAPE not in done.out


@WAYS
async def test_a_dead_letter_is_shown_whole(tmp_path: Path, way: str) -> None:
    """With its reason and its event."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run("dead-letters", "show", "2")
        assert (done.code, done.err) == (0, "")
        assert '  "insert_id": "b",\n' in done.out
        assert "400 \N{REPLACEMENT CHARACTER}[31m[bold]refused" in done.out
        shown = json.loads((await relay.run("dead-letters", "show", "2", "--json")).out)
        assert (shown["id"], shown["reason"], shown["event"]["insert_id"]) == (2, "bad", "b")


@WAYS
async def test_a_quarantined_body_is_shown_unchanged(tmp_path: Path, way: str) -> None:
    """Indented if it is JSON."""
    async with filled(tmp_path, way) as relay:
        assert (await relay.run("quarantine", "show", "1")).out.endswith("\n{not json\n")
        assert (await relay.run("quarantine", "show", "2")).out.endswith("\n//4=\n")
        assert (
            '    "kind": "message.push.clicked"' in (await relay.run("quarantine", "show", "3")).out
        )


async def test_a_body_of_absurd_depth_is_shown_unchanged(tmp_path: Path) -> None:
    """A body that parses may still be too deep to indent."""
    relay = CommandLine(tmp_path)
    deep = "[" * 300 + "]" * 300
    async with running_outbox(relay.folder, ["shop"]) as outbox:
        await quarantine(outbox, deep.encode(), reason="bad")
    assert (await relay.run("quarantine", "show", "1")).out.endswith(f"\n{deep}\n")


@WAYS
@NOUNS
async def test_an_unknown_id_is_named(tmp_path: Path, noun: str, way: str) -> None:
    """Also if larger ids exist."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run(noun, "show", "7")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(" 7\n")


@WAYS
async def test_dead_letters_are_retried(tmp_path: Path, way: str) -> None:
    """With a warning where Amplitude may count them again; a dry run only counts."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run("dead-letters", "retry", "--reason", "bad", "--dry-run")
        assert (done.code, done.out) == (0, "2 dead letters would be put back in line\n")
        assert await ids(relay, "dead-letters") == [1, 2, 3]
        done = await relay.run("dead-letters", "retry", "--reason", "bad")
        assert (done.code, done.out) == (0, "2 dead letters were put back in line\n")
        assert done.err.startswith("warning: ")
        assert "counts again" in done.err
        assert await ids(relay, "dead-letters") == [3]


@WAYS
async def test_quarantined_bodies_are_retried(tmp_path: Path, way: str) -> None:
    """Those now understood leave the quarantine, the others stay."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run("quarantine", "retry", "--all")
        assert (done.code, done.err) == (0, "")
        assert done.out == "1 quarantined body was read and taken in\n"
        assert await ids(relay, "quarantine") == [1, 2]


@WAYS
async def test_a_quarantined_cohort_message_is_retried(tmp_path: Path, way: str) -> None:
    """Once understood, it changes the segment table, with a daemon and without one."""
    message = {
        "cohort_id": "c1",
        "in_cohort": True,
        "computed_time": "1692206763",
        "message_id": "m::enter::0",
        "users": [{"user_id": "anna"}],
    }
    async with filled(tmp_path, way, cohort_message=json.dumps(message).encode()) as relay:
        done = await relay.run("quarantine", "retry", "4")
        assert (done.code, done.out) == (0, "1 quarantined body was read and taken in\n")
        assert await ids(relay, "quarantine") == [1, 2, 3]
        listed = "SELECT external_id FROM listed"
        assert SegmentFile(relay.folder).look(listed) == [("anna",)]


@WAYS
@NOUNS
async def test_missing_ids_are_reported(tmp_path: Path, noun: str, way: str) -> None:
    """The others are discarded, and without a terminal there is no question."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run(noun, "discard", "3", "99", "3")
        assert (done.code, done.err) == (1, "relay: 1 of 2 ids: not found\n")
        assert await ids(relay, noun) == [1, 2]


@WAYS
@NOUNS
async def test_items_are_exported_as_lines(tmp_path: Path, noun: str, way: str) -> None:
    """To standard output, or to a new file for the owner alone."""
    file = tmp_path / "export.ndjson"
    async with filled(tmp_path, way) as relay:
        printed = await relay.run(noun, "export")
        assert [json.loads(line)["id"] for line in printed.out.splitlines()] == [1, 2, 3]
        written = await relay.run(noun, "export", "--output", str(file))
        assert (written.code, file.read_text()) == (0, printed.out)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        again = await relay.run(noun, "export", "--output", str(file), "--reason", "worse")
        assert (again.code, file.read_text()) == (1, printed.out)
        assert again.err == f"relay: {file} exists already; name a new file\n"


@NOUNS
async def test_without_an_outbox_lists_are_empty_and_create_nothing(
    tmp_path: Path, noun: str
) -> None:
    """Listing does not create a data directory."""
    relay = CommandLine(tmp_path)
    assert await ids(relay, noun) == []
    done = await relay.run(noun, "discard", "--all")
    assert (done.code, done.err) == (0, "")
    assert not relay.folder.exists()


@pytest.mark.parametrize(
    "words", [(), ("1", "--all"), ("1", "--reason", "bad"), ("--all", "--reason", "bad"), ("x",)]
)
@pytest.mark.parametrize("verb", ["retry", "discard"])
async def test_ids_and_filters_exclude_each_other(
    tmp_path: Path, verb: str, words: tuple[str, ...]
) -> None:
    """Nothing is changed by a guess."""
    async with filled(tmp_path, "alone") as relay:
        assert (await relay.run("dead-letters", verb, *words)).code == 2
        assert await ids(relay, "dead-letters") == [1, 2, 3]


async def test_an_unknown_app_is_named_with_the_configured_ones(tmp_path: Path) -> None:
    """Before any database is opened."""
    done = await CommandLine(tmp_path).run("dead-letters", "list", "--app", "nobody")
    assert (done.code, done.out) == (1, "")
    assert done.err == "relay: no app 'nobody' is configured; there are: shop\n"


async def test_with_several_apps_actions_require_one(tmp_path: Path) -> None:
    """Lists show all apps; actions require one."""
    relay = CommandLine(tmp_path)
    relay.add_app("blog")
    async with running_outbox(relay.folder, ["shop", "blog"]) as outbox:
        await append_dead_letters(outbox, "a", reason="bad")
        await append_dead_letters(outbox, "b", reason="bad", app="blog")
    assert await ids(relay, "dead-letters") == [1, 2]
    refused = await relay.run("dead-letters", "discard", "--reason", "bad")
    assert refused.code == 2
    assert "blog, shop" in refused.err
    assert (await relay.run("dead-letters", "discard", "--app", "blog")).code == 0
    assert await ids(relay, "dead-letters") == [1]


async def answered(relay: CommandLine, answer: bytes, *words: str) -> int:
    """Run a command at a terminal, answer its question and return its exit code."""
    person, terminal = os.openpty()
    try:
        command = await relay.start(*words, stdin=terminal)
        async with command:
            assert command.stderr is not None
            with anyio.fail_after(20):
                asked = b""
                while b"?" not in asked:
                    asked += await command.stderr.receive()
            os.write(person, answer)
            return await ended(command)
    finally:
        os.close(person)
        os.close(terminal)


async def test_at_a_terminal_it_asks_first(tmp_path: Path) -> None:
    """And the answer counts."""
    async with filled(tmp_path, "alone") as relay:
        assert await answered(relay, b"n\n", "dead-letters", "discard", "--all") == 1
        assert await ids(relay, "dead-letters") == [1, 2, 3]
        assert await answered(relay, b"y\n", "dead-letters", "discard", "--all") == 0
        assert await ids(relay, "dead-letters") == []


async def test_yes_answers_in_advance(tmp_path: Path) -> None:
    """Even at a terminal there is no question."""
    person, terminal = os.openpty()
    async with filled(tmp_path, "alone") as relay:
        command = await relay.start("quarantine", "discard", "--all", "--yes", stdin=terminal)
        async with command:
            assert await ended(command) == 0
        assert await ids(relay, "quarantine") == []
    os.close(person)
    os.close(terminal)


async def test_an_app_that_is_no_longer_configured_keeps_its_dead_letters(tmp_path: Path) -> None:
    """They are listed, and can be discarded by id."""
    relay = CommandLine(tmp_path)
    async with running_outbox(relay.folder, ["gone"]) as outbox:
        await append_dead_letters(outbox, "a", reason="bad", app="gone")
    assert await ids(relay, "dead-letters") == [1]
    assert (await relay.run("dead-letters", "discard", "1")).code == 0
    assert await ids(relay, "dead-letters") == []
