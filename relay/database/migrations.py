"""Forward-only migrations: `NNNN_verb_noun.sql` files, the version in `PRAGMA user_version`.

A released file is never edited. Each runs in one transaction with its version, so a crash leaves
the database before or after it, never in between.
"""

import sqlite3
from collections.abc import Sequence
from importlib.resources.abc import Traversable

from relay.errors import SchemaTooNew


def find_migrations(folder: Traversable) -> list[str]:
    """Return the migration scripts of `folder`, first to last.

    Raises:
        ValueError: If the numbers do not run 1, 2, 3 … without a gap.
    """
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name
    )
    for number, file in enumerate(files, start=1):
        if not file.name.startswith(f"{number:04}_"):
            raise ValueError(f"{file.name} stands where migration {number:04} is expected")
    return [file.read_text(encoding="utf-8") for file in files]


def read_version(raw: sqlite3.Connection) -> int:
    """Return how many migrations a database went through."""
    version: int = raw.execute("PRAGMA user_version").fetchone()[0]
    return version


def refuse_newer(version: int, newest: int) -> None:
    """Make sure that a database is of no later schema than this relay's.

    Raises:
        SchemaTooNew: If a later relay wrote it.
    """
    if version > newest:
        raise SchemaTooNew(
            f"the database has schema {version}, this relay knows up to {newest}: "
            "install the relay that wrote it, or a later one"
        )


def migrate(raw: sqlite3.Connection, scripts: Sequence[str]) -> int:
    """Migrate the database to the newest version and return how many scripts ran.

    Raises:
        SchemaTooNew: If a later relay wrote this database; nothing is changed.
    """
    version = read_version(raw)
    refuse_newer(version, len(scripts))
    for number, script in enumerate(scripts[version:], start=version + 1):
        try:
            raw.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};\nCOMMIT;")
        except sqlite3.Error:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
    return len(scripts) - version
