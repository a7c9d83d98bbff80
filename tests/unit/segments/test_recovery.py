"""The sidecar of the segment table: it may be older than the table, never newer."""

import sqlite3
from pathlib import Path

import orjson
import pytest

from relay.database.counters_sidecar import CountersSidecar, load_record, sidecar_path
from relay.database.recovery.recover import recover
from relay.segments.recovery import RECOVERY_SPEC, SidecarReader
from relay.segments.store import DATABASE_NAME
from tests.support.segment_tables import NOW, open_table


async def _made(folder: Path) -> Path:
    async with open_table(folder) as table:
        await table.know({"user-1": [True], "user-2": [False]})
        await table.forget("user-2")
    return folder / DATABASE_NAME


def _set_sidecar(database: Path, **changes: object) -> None:
    """Change the sidecar."""
    sidecar = CountersSidecar(sidecar_path(database), lambda _: {})
    sidecar.write(orjson.dumps({**load_record(database), **changes}))
    sidecar.close()


@pytest.mark.parametrize(
    "older",
    [{"salts": [], "forgotten": []}, {"sequences": {}}, {"lists": 0, "apps": []}],
)
async def test_an_older_sidecar_is_no_sign_of_damage(
    tmp_path: Path, older: dict[str, object]
) -> None:
    """A power cut may lose the last sidecar write but not the commit."""
    database = await _made(tmp_path)
    _set_sidecar(database, **older)
    assert recover(database, RECOVERY_SPEC, NOW) is None


@pytest.mark.parametrize(
    "newer",
    [
        {"sequences": {"changes": 1_000}},
        {"salts": ["00" * 16]},
        {"forgotten": [[1, "00" * 16, NOW]]},
    ],
)
async def test_a_newer_sidecar_means_that_commits_are_missing(
    tmp_path: Path, newer: dict[str, object]
) -> None:
    """What was answered is in the sidecar but not in the table."""
    database = await _made(tmp_path)
    _set_sidecar(database, **newer)
    assert recover(database, RECOVERY_SPEC, NOW)
    assert recover(database, RECOVERY_SPEC, NOW) is None


async def test_erased_users_are_restored_from_the_sidecar_with_the_salt(tmp_path: Path) -> None:
    """Without the salt no erased user would be recognised."""
    database = await _made(tmp_path)
    database.write_bytes(b"")
    async with open_table(tmp_path) as table:
        number = table.store.cohorts.number("shop")
        assert (number, "user-2") in table.store.forgotten
        assert (number, "user-1") not in table.store.forgotten
    assert table.look("SELECT count(*) FROM forgotten") == [(1,)]


async def test_an_erased_user_in_older_pages_is_erased_again(tmp_path: Path) -> None:
    """The erasing commit is lost, and the user must not be known again."""
    async with open_table(tmp_path) as table:
        await table.know({"user-1": [True], "user-2": [False]})
    before = (tmp_path / DATABASE_NAME).read_bytes()
    async with open_table(tmp_path) as table:
        await table.forget("user-2")
    (tmp_path / DATABASE_NAME).write_bytes(before)
    async with open_table(tmp_path):
        pass
    assert table.look("SELECT external_id FROM users") == [("user-1",)]
    assert table.look("SELECT external_id FROM subscriptions") == [("user-1",)]


async def test_the_sidecar_follows_the_erased_users(tmp_path: Path) -> None:
    """It is rewritten when their number changes."""
    reader = SidecarReader()
    async with open_table(tmp_path) as table:
        assert (
            orjson.loads(orjson.dumps(await table.store.database.read(reader)))["forgotten"] == []
        )
        await table.forget("user-2")
        noted = orjson.loads(orjson.dumps(await table.store.database.read(reader)))["forgotten"]
        assert len(noted) == 1


async def test_a_rolled_back_erasure_is_not_in_the_sidecar(tmp_path: Path) -> None:
    """A full disk rolls back the commit; the sidecar must not list that user."""

    def undone(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO forgotten VALUES (1, zeroblob(16), 5)")
        raw.execute("CREATE TEMP TABLE a (id INTEGER PRIMARY KEY)")
        raw.execute("CREATE TEMP TABLE b (id REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
        raw.execute("INSERT INTO b VALUES (1)")  # makes COMMIT fail

    async with open_table(tmp_path) as table:
        await table.know({"user-2": [False]})
        with pytest.raises(sqlite3.IntegrityError):
            await table.store.database.write(undone)
        await table.forget("user-2")
    assert recover(tmp_path / DATABASE_NAME, RECOVERY_SPEC, NOW) is None
