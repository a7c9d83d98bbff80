"""The SQLite engine on real files: group commit, isolation of failures, limits of the disk."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from relay.database.connection import open_connection
from relay.database.database import Database, open_database
from relay.database.errors import translate
from relay.errors import SchemaTooNew, StoreDamaged, StoreFailed, StoreFull
from relay.heartbeat import Heartbeat
from tests.support.clocks import FakeClock

SCHEMA = ["CREATE TABLE things (name TEXT PRIMARY KEY) STRICT;"]
ADD = "INSERT INTO things VALUES (:name)"


@asynccontextmanager
async def _database(path: Path) -> AsyncIterator[Database]:
    async with (
        open_database(path, SCHEMA, Heartbeat(FakeClock())) as database,
        anyio.create_task_group() as group,
    ):
        await group.start(database.run)
        yield database
        group.cancel_scope.cancel()


def _adding(name: str) -> Callable[[sqlite3.Connection], str]:
    def change(raw: sqlite3.Connection) -> str:
        raw.execute(ADD, {"name": name})
        return name

    return change


def _failing(code: int) -> Callable[[sqlite3.Connection], str]:
    def change(_: sqlite3.Connection) -> str:
        error = sqlite3.OperationalError("as SQLite says it")
        error.sqlite_errorcode = code
        raise error

    return change


async def _names(database: Database) -> list[str]:
    return [name for (name,) in await database.fetch("SELECT name FROM things ORDER BY name", {})]


@asynccontextmanager
async def _busy_writer(database: Database) -> AsyncIterator[None]:
    """Keep the writer busy with its own group while the body fills the queue."""
    is_over = threading.Event()
    pending = database.submit(lambda _: is_over.wait(5))
    await wait_all_tasks_blocked()
    try:
        yield
    finally:
        is_over.set()
    await pending.wait()


async def test_a_write_is_on_disk_when_it_is_answered(tmp_path: Path) -> None:
    """Another process sees a change as soon as its write is answered."""
    path = tmp_path / "a.db"
    async with _database(path) as database:
        assert await database.write(_adding("one")) == "one"
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT name FROM things").fetchall() == [("one",)]


async def test_commits_are_synced(tmp_path: Path) -> None:
    """A commit waits for the disk, also in the write-ahead log."""

    def pragmas(raw: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum")
        return [raw.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    async with open_connection(tmp_path / "a.db", writable=True) as writer:
        await writer.run(lambda raw: raw.execute("CREATE TABLE t (x)"))
        assert await writer.run(pragmas) == ["wal", 2, 1, 2]


async def test_the_reader_cannot_write(tmp_path: Path) -> None:
    """Only one connection changes the file."""
    async with _database(tmp_path / "a.db") as database:
        with pytest.raises((StoreFailed, sqlite3.OperationalError)):
            await database.fetch("INSERT INTO things VALUES ('x')", {})
        assert await _names(database) == []


async def test_changes_that_wait_together_share_one_commit(tmp_path: Path) -> None:
    """The disk is synced once for all queued changes."""
    path = tmp_path / "a.db"
    async with _database(path) as database:
        with closing(sqlite3.connect(path)) as other:
            seen = [other.execute("PRAGMA data_version").fetchone()]
            commits = 0

            def look(_: str) -> None:
                nonlocal commits
                seen.append(other.execute("PRAGMA data_version").fetchone())
                commits += seen[-1] != seen[-2]

            async with _busy_writer(database), anyio.create_task_group() as group:
                for number in range(200):
                    pending = database.submit(_adding(f"n{number:03}"), on_commit=look)
                    group.start_soon(pending.wait)
                await wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            await database.flush()
        assert len(await _names(database)) == 200
        assert commits == 1


async def test_a_failing_change_does_not_hurt_its_group(tmp_path: Path) -> None:
    """Each change of a group gets its own result."""
    async with _database(tmp_path / "a.db") as database:
        async with _busy_writer(database):
            writes = [
                database.submit(_adding("one")),
                database.submit(_adding("one")),
                database.submit(_failing(sqlite3.SQLITE_FULL)),
                database.submit(_adding("two")),
            ]
        assert await writes[0].wait() == "one"
        with pytest.raises(sqlite3.IntegrityError):
            await writes[1].wait()
        with pytest.raises(StoreFull):
            await writes[2].wait()
        assert await writes[3].wait() == "two"
        assert await _names(database) == ["one", "two"]


async def test_a_change_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """A change is a transaction, whatever stops it."""

    def half(raw: sqlite3.Connection) -> None:
        raw.execute(ADD, {"name": "half"})
        raise KeyError("a mistake of ours")

    async with _database(tmp_path / "a.db") as database:
        with pytest.raises(KeyError):
            await database.write(half)
        await database.write(_adding("whole"))
        assert await _names(database) == ["whole"]


async def test_memory_follows_the_disk_before_the_next_group_begins(tmp_path: Path) -> None:
    """A change's `on_commit` has run when a later change is applied."""
    known: list[str] = []
    is_over = threading.Event()

    def slow(raw: sqlite3.Connection) -> str:
        is_over.wait(5)
        return _adding("one")(raw)

    async with _database(tmp_path / "a.db") as database:
        first = database.submit(slow, on_commit=known.append)
        await wait_all_tasks_blocked()
        second = database.submit(lambda _: list(known))
        is_over.set()
        assert await second.wait() == ["one"]
        assert await first.wait() == "one"


async def test_a_cancelled_caller_does_not_stop_its_change(tmp_path: Path) -> None:
    """Cancellation never interrupts a transaction."""
    async with _database(tmp_path / "a.db") as database:
        async with _busy_writer(database), anyio.create_task_group() as group:
            group.start_soon(database.write, _adding("one"))
            await wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        await database.flush()
        assert await _names(database) == ["one"]


async def test_many_may_wait_for_one_write(tmp_path: Path) -> None:
    """A cancelled waiter does not affect the others; a late one gets the same result."""
    got: list[str] = []
    async with _database(tmp_path / "a.db") as database:

        async def wait(scope: anyio.CancelScope) -> None:
            with scope:
                got.append(await pending.wait())

        impatient = anyio.CancelScope()
        async with anyio.create_task_group() as group, _busy_writer(database):
            pending = database.submit(_adding("one"))
            for scope in (impatient, anyio.CancelScope()):
                group.start_soon(wait, scope)
            await wait_all_tasks_blocked()
            impatient.cancel()
        assert got == ["one"]
        assert await pending.wait() == "one"


async def test_a_full_disk_rejects_writes_until_there_is_space(tmp_path: Path) -> None:
    """StoreFull leaves stored data intact, and is temporary."""
    async with _database(tmp_path / "a.db") as database:
        pages = (await database.fetch("PRAGMA page_count", {}))[0][0]
        await database.write(lambda raw: raw.execute(f"PRAGMA max_page_count={pages}").fetchall())
        with pytest.raises(StoreFull):
            await database.write(_adding("x" * 100_000))
        await database.write(_adding("small"))
        await database.write(lambda raw: raw.execute("PRAGMA max_page_count=100000").fetchall())
        await database.write(_adding("y" * 100_000))
        assert len(await _names(database)) == 2


Answer = str | type[Exception]


async def _answers(path: Path, *changes: Callable[[sqlite3.Connection], str]) -> list[Answer]:
    """Submit a group that fails the writer; return its results, and that of a late change."""
    answers: list[Answer] = []
    ended = False

    async def ask(database: Database) -> None:
        async with _busy_writer(database):
            writes = [database.submit(change) for change in changes]
        for pending in writes:
            try:
                answers.append(await pending.wait())
            except Exception as error:  # noqa: BLE001  # it is what the test is about
                answers.append(type(error))

    try:
        async with _database(path) as database:
            with anyio.CancelScope(shield=True), anyio.fail_after(5):
                await ask(database)
                try:
                    database.submit(_adding("late"))
                except StoreFailed:
                    answers.append(StoreFailed)
            await anyio.sleep(1)
    except* StoreFailed:
        ended = True
    assert ended
    return answers


@pytest.mark.parametrize(
    "code",
    [
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
    ],
)
async def test_a_failing_disk_ends_the_writer_and_rejects_everything(
    tmp_path: Path, code: int
) -> None:
    """After a failed sync nothing is trusted until the next start."""
    assert await _answers(tmp_path / "a.db", _failing(code)) == [StoreFailed, StoreFailed]


async def test_damage_ends_the_writer_too(tmp_path: Path) -> None:
    """The next start recovers it; until then nothing of it is trusted."""
    answers = await _answers(tmp_path / "a.db", _failing(sqlite3.SQLITE_CORRUPT))
    assert answers == [StoreDamaged, StoreFailed]


async def test_damage_met_by_a_reader_ends_the_writer(tmp_path: Path) -> None:
    """Only a start can recover the file."""
    with pytest.RaisesGroup(StoreDamaged, flatten_subgroups=True):
        async with _database(tmp_path / "a.db") as database:
            with pytest.raises(StoreDamaged):
                await database.read(_failing(sqlite3.SQLITE_CORRUPT))
            await anyio.sleep_forever()


async def test_a_failed_write_fails_its_whole_group(tmp_path: Path) -> None:
    """Changes of a failed transaction are not retried one by one."""
    group = (_adding("before"), _failing(sqlite3.SQLITE_IOERR_FSYNC), _adding("behind"))
    assert await _answers(tmp_path / "a.db", *group) == [StoreFailed] * 4


async def test_nothing_behind_a_failed_write_is_answered_as_stored(tmp_path: Path) -> None:
    """Changes retried one by one stop at the first disk error."""
    group = (
        _failing(sqlite3.SQLITE_FULL),
        _failing(sqlite3.SQLITE_IOERR_FSYNC),
        _adding("behind"),
    )
    expected = [StoreFull, StoreFailed, StoreFailed, StoreFailed]
    assert await _answers(tmp_path / "a.db", *group) == expected


async def test_a_failing_rollback_counts_as_a_failing_disk(tmp_path: Path) -> None:
    """A disk that fails during a change and its rollback is not trusted further."""

    def change(raw: sqlite3.Connection) -> str:
        raw.execute(ADD, {"name": "x"})
        raw.set_authorizer(_deny_transactions)
        return _failing(sqlite3.SQLITE_IOERR)(raw)

    answers = await _answers(tmp_path / "a.db", change, _adding("y"))
    assert answers == [StoreFailed] * 3


def _deny_transactions(action: int, *_: object) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK


def test_defects_are_not_disk_errors() -> None:
    """A constraint violation or a bad statement is a defect, not an outage."""
    error = sqlite3.IntegrityError("UNIQUE constraint failed")
    error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_UNIQUE
    assert translate(error) is error


async def test_a_later_schema_prevents_the_start(tmp_path: Path) -> None:
    """An older relay does not open what a later one wrote."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 2")
    with pytest.raises(SchemaTooNew):
        async with _database(path):
            pass


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 30])
async def test_a_file_that_is_no_database_prevents_the_start(
    tmp_path: Path, content: bytes
) -> None:
    """The file is left unchanged."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreFailed):
        async with _database(path):
            pass
    assert path.read_bytes() == content


async def test_a_missing_folder_prevents_the_start(tmp_path: Path) -> None:
    """The error is relay's own and fits on one line."""
    with pytest.raises(StoreFailed):
        async with _database(tmp_path / "nowhere" / "a.db"):
            pass
    for thread in threading.enumerate():  # the connection's own thread; it ends alone
        if "_connection_worker" in thread.name:
            await anyio.to_thread.run_sync(thread.join)
