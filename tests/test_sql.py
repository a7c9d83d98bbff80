"""SQLite can parse every statement of every `.sql` file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.database.queries import MARK, load_queries

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "relay").rglob("*.sql"))
SYNTAX = ("syntax error", "incomplete input", "unrecognized token")


def _statements(script: str) -> Iterator[str]:
    """Split a script where SQLite ends a statement; a trigger's body does not end it."""
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
    if text.strip():
        yield text


def syntax_errors(script: str) -> list[str]:
    """Return SQLite's parse errors of a script, ignoring unknown names."""
    found = []
    with closing(sqlite3.connect(":memory:")) as raw:
        for statement in _statements(script):
            try:
                raw.execute(f"EXPLAIN {statement}")
            except sqlite3.OperationalError as error:
                found += [str(error)] * any(words in str(error) for words in SYNTAX)
            except sqlite3.ProgrammingError:  # parsed, and waits for its parameters
                continue
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_parses(file: Path) -> None:
    """Errors are found where they are written, not when first executed."""
    text = file.read_text()
    if MARK not in text:
        assert syntax_errors(text) == []
        return
    for name, query in load_queries(file).items():
        assert (name, syntax_errors(query)) == (name, [])


@pytest.mark.parametrize(
    "wrong", ["SELEC 1", "SELECT 1 FROM", "CREATE TABLE a (b", "SELECT #", "INSERT INTO a VALUES"]
)
def test_what_does_not_parse_is_found(wrong: str) -> None:
    """The control of the test above."""
    assert syntax_errors(f"SELECT :one FROM no_table WHERE a = :b;\n{wrong}") != []
