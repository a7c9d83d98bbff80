"""Damage to files at rest: each kind changes the files of one database, seeded."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from relay.database.counters_sidecar import sidecar_path

PAGE_BYTES: Final = 4096
LOG_HEADER_BYTES: Final = 32
MOST_FLIPS: Final = 200

JPEG: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x01\x00H\x00H\x00\x00\xff\xdb\x00C\x00"

Damage: TypeAlias = Callable[[Path, Random], None]
"""Damages the files of a database, given its path."""


def log_of(database: Path) -> Path:
    """Return where a database's write-ahead log is."""
    return database.with_name(f"{database.name}-wal")


def copy_database(database: Path, target: Path) -> Path:
    """Copy a database's files into a new folder; return the copy."""
    target.mkdir(parents=True)
    for file in (database, log_of(database), sidecar_path(database)):
        if file.exists():
            shutil.copy(file, target / file.name)
    return target / database.name


def flip_bytes(database: Path, rng: Random) -> None:
    """Change some bytes anywhere in the database or its log."""
    _flip(_either(database, rng), rng.randint(1, MOST_FLIPS), rng)


def flip_one_byte(database: Path, rng: Random) -> None:
    """Change a single byte, which may be inside a text."""
    _flip(_either(database, rng), 1, rng)


def flip_head(database: Path, rng: Random) -> None:
    """Change bytes of the file header."""
    file = _either(database, rng)
    _flip(file, rng.randint(1, 8), rng, upto=LOG_HEADER_BYTES if file != database else 100)


def flip_schema(database: Path, rng: Random) -> None:
    """Change bytes of the first pages, which contain the schema."""
    _flip(database, rng.randint(1, 20), rng, upto=3 * PAGE_BYTES)


def truncate(database: Path, rng: Random) -> None:
    """Truncate a file anywhere."""
    file = _either(database, rng)
    _resize(file, rng.randrange(file.stat().st_size))


def truncate_at_page(database: Path, rng: Random) -> None:
    """Truncate the database at a page boundary, as a file system repair does."""
    _resize(database, rng.randrange(database.stat().st_size // PAGE_BYTES) * PAGE_BYTES)


def zero_pages(database: Path, rng: Random) -> None:
    """Zero some pages."""
    pages = database.stat().st_size // PAGE_BYTES
    with database.open("r+b") as file:
        for _ in range(rng.randint(1, 4)):
            file.seek(rng.randrange(pages) * PAGE_BYTES)
            file.write(bytes(PAGE_BYTES))


def swap_pages(database: Path, rng: Random) -> None:
    """Overwrite a page with another one: a misdirected write."""
    pages = database.stat().st_size // PAGE_BYTES
    with database.open("r+b") as file:
        file.seek(rng.randrange(pages) * PAGE_BYTES)
        page = file.read(PAGE_BYTES)
        file.seek(rng.randrange(pages) * PAGE_BYTES)
        file.write(page)


def remove_log(database: Path, rng: Random) -> None:  # noqa: ARG001  # as every damage
    """Remove the log, as if it were a leftover."""
    log_of(database).unlink(missing_ok=True)


def remove_database(database: Path, rng: Random) -> None:  # noqa: ARG001
    """Remove the database but not its other files."""
    database.unlink()


def put_picture(database: Path, rng: Random) -> None:
    """Replace the database with a picture."""
    database.write_bytes(JPEG + rng.randbytes(rng.randint(0, 3 * PAGE_BYTES)))


def put_nothing(database: Path, rng: Random) -> None:  # noqa: ARG001
    """Replace the database with an empty file."""
    database.write_bytes(b"")


def put_foreign_database(database: Path, rng: Random) -> None:
    """Replace the database with another program's."""
    for file in (database, log_of(database)):
        file.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as raw:
        raw.execute("CREATE TABLE places (id INTEGER PRIMARY KEY, url TEXT)")
        raw.execute("INSERT INTO places (url) VALUES ('https://example.org')")
        raw.execute(f"PRAGMA user_version={rng.choice((0, 1, 77))}")
        raw.commit()


DAMAGES: Final[tuple[Damage, ...]] = (
    flip_bytes,
    flip_one_byte,
    flip_head,
    flip_schema,
    truncate,
    truncate_at_page,
    zero_pages,
    swap_pages,
    remove_log,
    remove_database,
    put_picture,
    put_nothing,
    put_foreign_database,
)


def _either(database: Path, rng: Random) -> Path:
    log = log_of(database)
    is_log = log.exists() and log.stat().st_size > 0 and rng.random() < 1 / 2
    return log if is_log else database


def _flip(path: Path, flips: int, rng: Random, *, upto: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(flips):
        place = rng.randrange(min(len(data), upto or len(data)))
        data[place] ^= rng.randint(1, 255)
    path.write_bytes(data)


def _resize(path: Path, size_bytes: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size_bytes)
