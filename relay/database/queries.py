"""Named SQL: `-- name: word` starts a query, further comment lines say its purpose."""

from importlib.resources.abc import Traversable

MARK = "-- name:"


def load_queries(file: Traversable) -> dict[str, str]:
    """Return the queries of a `.sql` file by name.

    Raises:
        ValueError: If text stands before the first name, a name is used twice, or a
            query is empty.
    """
    queries: dict[str, str] = {}
    head, *parts = file.read_text(encoding="utf-8").split(MARK)
    if _statement(head):
        raise ValueError(f"{file.name}: SQL before the first `{MARK}` line")
    for part in parts:
        name, _, rest = part.partition("\n")
        name = name.strip()
        statement = _statement(rest)
        if name in queries or not statement:
            raise ValueError(
                f"{file.name}: query {name!r} is {'empty' if not statement else 'twice'}"
            )
        queries[name] = statement
    return queries


def _statement(text: str) -> str:
    """Return `text` without comment lines: SQLite would parse them with every statement."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip()
