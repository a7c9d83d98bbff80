"""Which dead letters or quarantined bodies a person means."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

CHUNK = 500
"""Rows one transaction moves, so that accepting events never waits long."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows by id, or by app and reason; None leaves a condition out.

    Attributes:
        ids: Exactly these.
        app: Of this app's number.
        reason: With this reason.
    """

    ids: tuple[int, ...] | None = None
    app: int | None = None
    reason: str | None = None

    def parameters(self, after: int, limit: int = CHUNK) -> dict[str, int | str | None]:
        """Return the query parameters for the next rows after id `after`."""
        ids = None if self.ids is None else orjson.dumps(self.ids).decode()
        return {
            "ids": ids,
            "app": self.app,
            "reason": self.reason,
            "after": after,
            "limit": limit,
        }


def tally(rows: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield each app number among `(id, app)` rows and how many rows it has."""
    apps = [app for _, app in rows]
    for app in set(apps):
        yield app, apps.count(app)
