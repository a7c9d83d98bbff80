"""Named SQL, and that relay uses all of it."""

import ast
import re
from pathlib import Path

import pytest

from relay.database.queries import load_queries
from relay.outbox.sql import SQL

RELAY = Path(__file__).parents[3] / "relay"


def _load(folder: Path, text: str) -> dict[str, str]:
    file = folder / "some.sql"
    file.write_text(text, encoding="utf-8")
    return load_queries(file)


def test_queries_come_by_name_without_their_comments(tmp_path: Path) -> None:
    """Comments are for readers of the file, not for SQLite's statement cache."""
    text = (
        "-- A head.\n\n-- name: one\n-- Why.\nSELECT 1\n  -- inside\nFROM t;\n"
        "-- name: two\nSELECT 2;\n"
    )
    assert _load(tmp_path, text) == {"one": "SELECT 1\nFROM t;", "two": "SELECT 2;"}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 0;\n-- name: one\nSELECT 1;",
        "-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;",
        "-- name: one\n-- nothing\n-- name: two\nSELECT 2;",
        "-- name: one",
    ],
)
def test_a_file_with_a_mistake_is_rejected(tmp_path: Path, text: str) -> None:
    """SQL without a name, a name twice, a name without SQL."""
    with pytest.raises(ValueError, match=r"some\.sql"):
        _load(tmp_path, text)


def _words(node: ast.AST) -> set[str]:
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def test_every_query_of_the_outbox_is_used_and_none_is_missing() -> None:
    """An unused query or an unknown name is a leftover."""
    used: set[str] = set()
    subscripts: set[str] = set()
    for path in (RELAY / "outbox").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used |= _words(tree)
        subscripts |= {
            str(node.slice.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == "SQL"
            and isinstance(node.slice, ast.Constant)
        }
    assert set(SQL) - used == set()
    assert subscripts - set(SQL) == set()


def test_python_has_no_sql() -> None:
    """SQL is in `.sql` files; Python has only pragmas and transaction statements."""
    statement = re.compile(
        r"^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH)\s(?!/)", re.ASCII
    )  # no route
    found = [
        (path.name, word)
        for path in RELAY.rglob("*.py")
        for word in _words(ast.parse(path.read_text(encoding="utf-8")))
        if statement.match(word) and "\n" not in word
    ]
    assert found == []
