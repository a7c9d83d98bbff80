"""Recovery: the check before a database is opened, and the salvage of a damaged one."""

import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from relay.database.counters_sidecar import CountersSidecar, SidecarRecord, sidecar_path
from relay.database.migrations import migrate
from relay.database.recovery.archive import find_archived, is_marked_unclean, mark_unclean
from relay.database.recovery.check import RecoverySpec
from relay.database.recovery.format import PAGE_BYTES
from relay.database.recovery.page_reader import open_page_reader
from relay.database.recovery.pages import Pages, open_pages
from relay.database.recovery.recover import mark_unclean_on_error, recover
from relay.database.recovery.salvage import Row, Salvage, find_roots, read_tables
from relay.database.recovery.wal import Wal
from relay.errors import DoorBlocked, SchemaTooNew, StoreDamaged, StoreFull
from relay.outbox.sql import MIGRATIONS as OUTBOX
from relay.segments.sql import MIGRATIONS as SEGMENTS
from tests.support.limits import file_size_limit

NOW_MS = 1_785_500_000_000
STAMP = "20260731T121320Z"
THINGS = 900

ONE = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> '')) STRICT;"
TWO = "CREATE INDEX things_by_name ON things (name); ALTER TABLE things ADD COLUMN size INTEGER;"
ROW = "INSERT INTO things (id, name) VALUES (?, ?)"


def _is_sensible(row: Row) -> bool:
    return str(row["name"]).startswith(f"thing {row['id']!r} ")


def _make_consistent(
    raw: sqlite3.Connection, found: Salvage, record: SidecarRecord
) -> Mapping[str, int]:
    (left,) = raw.execute("SELECT count(*) FROM things").fetchone()
    assert found.saved["things"] == left
    return {"things": record.get("things", left) - left}


def _find_faults(raw: sqlite3.Connection, record: SidecarRecord, *, whole: bool) -> list[str]:
    (left,) = raw.execute("SELECT count(*) FROM things").fetchone()
    return ["things are missing"] if whole and left < record.get("things", 0) else []


RECOVERY_SPEC = RecoverySpec([ONE, TWO], {"things": _is_sensible}, _find_faults, _make_consistent)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database at rest, many pages long."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        raw.executescript(f"{ONE}{TWO}PRAGMA user_version=2;")
        raw.executemany(ROW, [(n, f"thing {n} {'x' * 90}") for n in range(1, THINGS + 1)])
        raw.commit()
    return path


def _root(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as raw:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        return int(raw.execute(query, (name,)).fetchone()[0])


def _put(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def _ids(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {id_ for (id_,) in raw.execute("SELECT id FROM things")}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_database_is_left_alone(database: Path) -> None:
    """Not a byte of it changes."""
    before = database.read_bytes()
    assert recover(database, RECOVERY_SPEC, NOW_MS) is None
    assert database.read_bytes() == before
    assert _names(database.parent) == ["a.db"]


def _vacuumed(path: Path, migrations: Sequence[str]) -> RecoverySpec:
    """Return a database after `VACUUM`, whose tables have other root pages."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        migrate(raw, migrations)
        before = {table.name: root for root, table in read_tables(raw).items()}
        raw.execute("VACUUM")
        assert before != {table.name: root for root, table in read_tables(raw).items()}
    return RecoverySpec(migrations, {}, lambda *_, **__: [], lambda *_: {})


@pytest.mark.parametrize("migrations", [OUTBOX, SEGMENTS])
def test_a_vacuumed_database_is_left_alone(tmp_path: Path, migrations: list[str]) -> None:
    """`VACUUM` shrinks it, and `VACUUM INTO` copies it; both results are healthy."""
    path = tmp_path / "a.db"
    spec = _vacuumed(path, migrations)
    mark_unclean(path)
    assert recover(path, spec, NOW_MS) is None
    assert _names(tmp_path) == ["a.db"]


def test_rows_of_a_vacuumed_database_are_saved_where_they_are(tmp_path: Path) -> None:
    """Its root pages differ from those of a new database."""
    path = tmp_path / "a.db"
    spec = _vacuumed(path, OUTBOX)
    with closing(sqlite3.connect(path)) as raw:
        raw.executemany(
            "INSERT INTO quarantine (app, hook, reason, detail, received_at, body)"
            " VALUES (1, 'events', 'no_kind', '', ?, zeroblob(90))",
            [(n,) for n in range(THINGS)],
        )
        raw.commit()
    _put(path, (_root(path, "events_by_app") - 1) * PAGE_BYTES, bytes(PAGE_BYTES))
    archived = recover(path, spec, NOW_MS)
    assert archived is not None
    assert archived.saved == {"quarantine": THINGS, "marks": 1}


def test_a_missing_database_is_no_damage(tmp_path: Path) -> None:
    """The first start creates it."""
    assert recover(tmp_path / "a.db", RECOVERY_SPEC, NOW_MS) is None
    assert _names(tmp_path) == []


@pytest.mark.parametrize("size_bytes", [0, PAGE_BYTES])
def test_a_first_start_that_was_interrupted_is_no_damage(tmp_path: Path, size_bytes: int) -> None:
    """The file exists, but has no table yet."""
    path = tmp_path / "a.db"
    path.touch()
    if size_bytes:
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
            raw.execute("PRAGMA journal_mode=WAL")
    assert recover(path, RECOVERY_SPEC, NOW_MS) is None


def test_an_empty_database_where_rows_were_is_damage(tmp_path: Path) -> None:
    """The sidecar counts rows that the file lacks."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode=WAL")
    sidecar = CountersSidecar(sidecar_path(path), lambda _: {})
    sidecar.write(b'{"things":3}')
    sidecar.close()
    archived = recover(path, RECOVERY_SPEC, NOW_MS)
    assert archived is not None
    assert archived.lost == {"things": 3}


def _lose_root(path: Path) -> None:
    """Without it SQLite finds no row of the table."""
    _put(path, (_root(path, "things") - 1) * PAGE_BYTES, bytes(PAGE_BYTES))


def _lose_index(path: Path) -> None:
    _put(path, (_root(path, "things_by_name") - 1) * PAGE_BYTES, bytes(PAGE_BYTES))


def _lose_map(path: Path) -> None:
    _put(path, PAGE_BYTES, bytes(PAGE_BYTES))


def _lose_schema(path: Path) -> None:
    _put(path, 0, b"nothing of this is known to anybody" * 100)


@pytest.mark.parametrize("damage", [_lose_root, _lose_index, _lose_map, _lose_schema])
def test_damage_to_interior_pages_loses_no_row(
    database: Path, damage: Callable[[Path], None]
) -> None:
    """Each row is reachable in two ways, and indexes are rebuilt."""
    damage(database)
    damaged = database.read_bytes()
    archived = recover(database, RECOVERY_SPEC, NOW_MS)
    assert archived is not None
    assert archived.lost == {"things": 0}
    assert _ids(database) == set(range(1, THINGS + 1))
    assert archived.path == database.with_name(f"a.db.damaged-{STAMP}")
    assert archived.path.read_bytes() == damaged
    assert archived.path.stat().st_mode & 0o777 == 0o600
    assert recover(database, RECOVERY_SPEC, NOW_MS) is None
    assert list(find_archived(database)) == [archived]


def test_a_lost_root_of_a_table_without_rowids_costs_its_own_rows(tmp_path: Path) -> None:
    """Its interior pages contain rows and lead to all others."""
    path = tmp_path / "a.db"
    keyed = "CREATE TABLE pairs (a INTEGER, b TEXT, PRIMARY KEY (b, a)) STRICT, WITHOUT ROWID;"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        migrate(raw, [keyed])
        pairs = [(n, f"{n:05}{'x' * 90}") for n in range(THINGS)]
        raw.executemany("INSERT INTO pairs VALUES (?, ?)", pairs)
        raw.commit()
    _put(path, (_root(path, "pairs") - 1) * PAGE_BYTES, bytes(PAGE_BYTES))
    spec = RecoverySpec([keyed], {}, lambda *_, **__: [], lambda *_: {})
    assert recover(path, spec, NOW_MS) is not None
    with closing(sqlite3.connect(path)) as raw:
        saved = set(raw.execute("SELECT a, b FROM pairs"))
    assert saved <= set(pairs)
    assert len(saved) >= THINGS - THINGS // 20


def test_a_header_that_claims_a_huge_file_needs_no_space(database: Path) -> None:
    """The scratch file is as long as the existing pages."""
    _put(database, 28, (90_000).to_bytes(4))  # pages: 350 MiB
    with file_size_limit(64 * 1024 * 1024):
        assert recover(database, RECOVERY_SPEC, NOW_MS) is not None
    assert _ids(database) == set(range(1, THINGS + 1))


def test_a_text_that_is_not_utf8_costs_its_row_and_is_not_quoted(database: Path) -> None:
    """SQLite stores any bytes; Python's decoding error quotes the row."""
    with closing(sqlite3.connect(database)) as raw:
        raw.execute("UPDATE things SET name = CAST(x'7468696e67203137ff' AS TEXT) WHERE id = 17")
        raw.commit()
    mark_unclean(database)
    archived = recover(database, RECOVERY_SPEC, NOW_MS)
    assert archived is not None
    assert archived.why == "a text is not UTF-8"
    assert _ids(database) == set(range(1, THINGS + 1)) - {17}


def test_a_lost_page_costs_its_rows_only(database: Path) -> None:
    """The other pages are read normally."""
    with open_pages(database) as pages:
        root = _root(database, "things")
        leaf = next(n for n, owner in pages.owners([root]) if owner == root and n != root)
    _put(database, (leaf - 1) * PAGE_BYTES, bytes(PAGE_BYTES))
    assert recover(database, RECOVERY_SPEC, NOW_MS)
    assert THINGS - 60 < len(_ids(database)) < THINGS


def test_a_cut_file_is_known_by_its_length(database: Path) -> None:
    """The header has the number of pages, however large the file is."""
    pages = database.stat().st_size // PAGE_BYTES
    with database.open("r+b") as file:
        file.truncate((pages - 3) * PAGE_BYTES)
    archived = recover(database, RECOVERY_SPEC, NOW_MS)
    assert archived is not None
    assert archived.why == f"3 of its {pages} pages are missing"


def test_the_page_of_sqlites_locks_is_never_missing(tmp_path: Path) -> None:
    """SQLite skips this page in databases past 1 GiB, in file and log."""
    path = tmp_path / "a.db"
    lock_page = (1 << 30) // PAGE_BYTES + 1
    with path.open("w+b") as file:
        file.truncate((lock_page - 3) * PAGE_BYTES)
        grown = {lock_page + step: 0 for step in (-2, -1, 1, 2)}
        wal = Wal(places=grown, pages=lock_page + 2)
        assert Pages(file.fileno(), None, wal).missing == 0
        del wal.places[lock_page + 1]
        assert Pages(file.fileno(), None, wal).missing == 1
        file.truncate(lock_page * PAGE_BYTES)
        assert Pages(file.fileno(), None, wal).missing == 1


def test_an_implausible_row_is_not_salvaged(database: Path) -> None:
    """Only a reader of the row can see that, SQLite cannot."""
    with closing(sqlite3.connect(database)) as raw:
        raw.execute("UPDATE things SET name = 'thimg' WHERE id = 17")
        raw.commit()
    assert recover(database, RECOVERY_SPEC, NOW_MS) is None
    mark_unclean(database)
    assert recover(database, RECOVERY_SPEC, NOW_MS)
    assert _ids(database) == set(range(1, THINGS + 1)) - {17}
    assert not is_marked_unclean(database)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xd8\xff\xe0 a picture" * 900, "it is no SQLite database"),
        (bytes(3 * PAGE_BYTES), "it is no SQLite database"),
    ],
)
def test_a_foreign_file_is_archived(tmp_path: Path, content: bytes, why: str) -> None:
    """Relay starts afresh, and the file is kept."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    archived = recover(path, RECOVERY_SPEC, NOW_MS)
    assert archived is not None
    assert archived.why == why
    assert archived.path.read_bytes() == content
    assert _ids(path) == set()


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_foreign_database_is_archived(tmp_path: Path, version: int) -> None:
    """Its tables are not used, and ours are not added to it."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE places (url TEXT)")
        raw.execute(f"PRAGMA user_version={version}")
    archived = recover(path, RECOVERY_SPEC, NOW_MS)
    assert archived is not None
    assert archived.why == "it is another program's database"


def test_a_later_schema_is_rejected_and_left_alone(database: Path) -> None:
    """An older relay never touches what a later one wrote."""
    with closing(sqlite3.connect(database)) as raw:
        raw.execute("PRAGMA user_version=3")
    before = database.read_bytes()
    with pytest.raises(SchemaTooNew):
        recover(database, RECOVERY_SPEC, NOW_MS)
    assert database.read_bytes() == before
    assert _names(database.parent) == ["a.db"]


def test_a_later_schema_without_one_of_our_tables_is_rejected_too(tmp_path: Path) -> None:
    """A later relay may have dropped it."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        migrate(raw, [*OUTBOX, "DROP TABLE messages;"])
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew):
        recover(path, RecoverySpec(OUTBOX, {}, lambda *_, **__: [], lambda *_: {}), NOW_MS)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [1, 2, 25_089])
def test_a_version_that_is_not_the_schemas_is_damage(database: Path, version: int) -> None:
    """Whatever set it, the rows are salvaged."""
    with closing(sqlite3.connect(database)) as raw:
        raw.execute("DROP INDEX things_by_name")
        raw.execute(f"PRAGMA user_version={version}")
    assert recover(database, RECOVERY_SPEC, NOW_MS)
    assert _ids(database) == set(range(1, THINGS + 1))


def test_half_a_migration_is_named(tmp_path: Path) -> None:
    """No crash leaves one; a manual change may."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        raw.executescript(f"{ONE}PRAGMA user_version=2;")
        raw.execute(ROW, (1, "thing 1 "))
        raw.commit()
    archived = recover(path, RECOVERY_SPEC, NOW_MS)
    assert archived is not None
    assert archived.why == "it says that its schema is 2, and it is not"
    assert _ids(path) == {1}


def test_a_crash_during_archiving_is_resumed(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start finishes the archiving from any point."""
    _lose_root(database)
    for tail in ("-wal", "-shm"):
        database.with_name(f"a.db{tail}").write_bytes(b"")
    whole = tmp_path / "whole"
    moves = 0
    while True:
        folder = tmp_path / f"crash {moves}"
        shutil.copytree(database.parent, folder, ignore=shutil.ignore_patterns("*crash*", "whole"))
        with monkeypatch.context() as patched:
            _crash_after(moves, patched)
            try:
                recover(folder / "a.db", RECOVERY_SPEC, NOW_MS)
            except _CrashError:
                assert recover(folder / "a.db", RECOVERY_SPEC, NOW_MS + 5_000) is None or moves == 0
            else:
                break
        assert _ids(folder / "a.db") == set(range(1, THINGS + 1))
        moves += 1
    assert moves == 5
    assert not whole.exists()


class _CrashError(BaseException):
    """The end of a process, simulated by the test."""


def _crash_after(moves: int, patched: pytest.MonkeyPatch) -> None:
    """Crash at the move of a file after this many others."""
    left = [moves]
    rename = Path.rename

    def move(path: Path, target: Path) -> Path:
        if left[0] == 0:
            left[0] = -1
            raise _CrashError
        left[0] -= 1
        return rename(path, target)

    patched.setattr(Path, "rename", move)


def test_a_full_disk_is_reported_and_changes_nothing(database: Path) -> None:
    """There is no space for the salvage: the next start retries."""
    _lose_root(database)
    before = database.read_bytes()

    def settle(_: sqlite3.Connection, __: Salvage, ___: SidecarRecord) -> Mapping[str, int]:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    full = RecoverySpec(RECOVERY_SPEC.migrations, {}, _find_faults, settle)
    with pytest.raises(StoreFull, match=r"a\.db is damaged .* and cannot be rescued"):
        recover(database, full, NOW_MS)
    assert database.read_bytes() == before
    assert _names(database.parent) == ["a.db"]


@pytest.mark.parametrize(
    ("error", "is_marked"),
    [
        (StoreDamaged("x"), True),
        (ExceptionGroup("", [ValueError("x")]), True),
        (DoorBlocked("x"), False),
        (OSError("x"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_an_unclean_end_has_all_rows_read(
    database: Path, error: BaseException, *, is_marked: bool
) -> None:
    """A file too large to read at every start is read whole at the next one."""
    with pytest.raises(type(error)), mark_unclean_on_error(database):
        raise error
    assert is_marked_unclean(database) == is_marked


@pytest.mark.parametrize("migrations", [OUTBOX, SEGMENTS])
def test_roots_are_the_same_however_a_database_grew(tmp_path: Path, migrations: list[str]) -> None:
    """Rows are found by them when the schema cannot be read; each layout fits a first page."""
    path = tmp_path / "grown.db"
    with closing(sqlite3.connect(path)) as raw, closing(sqlite3.connect(":memory:")) as new:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        new.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for number, script in enumerate(migrations):
            raw.executescript(script)
            new.executescript(script)
            if not number:
                raw.execute("CREATE TABLE large (x)")
                raw.executemany("INSERT INTO large VALUES (?)", [(bytes(3_000),)] * 300)
                raw.commit()
                raw.execute("DELETE FROM large")
                raw.commit()
        tables = read_tables(raw)
        assert all(len(table.layout.create) < PAGE_BYTES // 2 for table in tables.values())
        grown = {table.name: root for root, table in tables.items()}
        assert {
            table.name: root for root, table in read_tables(new).items()
        }.items() <= grown.items()
        with open_pages(path) as pages, open_page_reader(pages, tmp_path / "pages") as reader:
            roots = find_roots(pages, reader)
        read = raw.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0")
        assert roots == dict(read)
