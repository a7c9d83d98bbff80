"""Which dead letters or quarantined bodies an action affects."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

CHUNK = 500
"""Rows moved by one transaction, so that accepting events never waits long."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows by id, or by app and reason; None leaves a condition out.

    Attributes:
        ids: These ids only.
        app: This app's number only.
        reason: This reason only.
    """

    ids: tuple[int, ...] | None = None
    app: int | None = None
    reason: str | None = None

    def parameters(self, after: int, limit: int = CHUNK) -> dict[str, int | str | None]:
        """Return the query parameters for the next rows after id `after`."""
        # One statement for every combination, so that its plan can be tested once.
        ids = None if self.ids is None else orjson.dumps(self.ids).decode()
        return {
            "ids": ids,
            "app": self.app,
            "reason": self.reason,
            "after": after,
            "limit": limit,
        }


def count_by_app(rows: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield each app number among `(id, app)` rows and how many rows it has."""
    apps = [app for _, app in rows]
    for app in set(apps):
        yield app, apps.count(app)
