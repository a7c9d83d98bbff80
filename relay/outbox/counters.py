"""The apps of an outbox and their counts: `accepted = pending + delivered + dead + discarded`.

A count moves only in the transaction that moves the rows it counts, so the numbers are
true after any crash and nothing has to be counted again at the start.
"""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from relay.database.database import Database
from relay.outbox.sql import SQL


@dataclass(frozen=True, slots=True)
class Counts:
    """An app's counts, as steps to take or as totals.

    Attributes:
        accepted: Distinct events ever taken.
        delivered: Events Amplitude confirmed.
        dead: Events standing in the dead letters.
        discarded: Events a person threw away.
        duplicate: Repeated deliveries recognised.
        filtered: Events the configuration leaves out.
        quarantined: Bodies ever put into quarantine.
        lost: Part of what is discarded: events that damage to the disk took.
    """

    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    discarded: int = 0
    duplicate: int = 0
    filtered: int = 0
    quarantined: int = 0
    lost: int = 0

    @property
    def pending(self) -> int:
        """Events on disk that still wait for Amplitude."""
        return self.accepted - self.delivered - self.dead - self.discarded

    def add(self, raw: sqlite3.Connection, app: int) -> None:
        """Add these steps to app number `app`'s counts, inside a transaction."""
        steps = {name: getattr(self, name) for name in self.__slots__}
        raw.execute(SQL["count"], {"app": app, **steps})


@dataclass(frozen=True, slots=True)
class AppState:
    """What the outbox knows of an app: its number, whether a person paused it, its counts."""

    no: int
    app: str
    is_paused: bool
    counts: Counts


class AppCounters:
    """The apps of an outbox: their numbers, counts and pauses.

    Attributes:
        pending: Events that wait, over all apps; follows the disk.
    """

    def __init__(self, database: Database, states: Collection[AppState]) -> None:
        self._database = database
        self._numbers = {state.app: state.no for state in states}
        self._names = {state.no: state.app for state in states}
        self.pending = sum(state.counts.pending for state in states)

    @classmethod
    async def load(cls, database: Database, apps: Collection[str]) -> "AppCounters":
        """Give each of `apps` a number, if it has none, and read all counts."""

        def register(raw: sqlite3.Connection) -> None:
            raw.executemany(SQL["add_app"], [{"app": app} for app in apps])

        await database.write(register)
        return cls(database, await database.read(_read_states))

    def number(self, app: str) -> int:
        """Return the number that stands for `app` in the tables.

        Raises:
            KeyError: If the outbox does not know the app.
        """
        return self._numbers[app]

    def name(self, no: int) -> str:
        """Return the app of a number."""
        return self._names[no]

    async def states(self) -> dict[str, AppState]:
        """Return every app with its counts as of now."""
        return {state.app: state for state in await self._database.read(_read_states)}

    async def set_paused(self, app: str, *, paused: bool) -> bool:
        """Remember that a person paused or resumed `app`; False if it was so already."""
        no = self.number(app)

        def change(raw: sqlite3.Connection) -> bool:
            return raw.execute(SQL["pause"], {"app": no, "paused": paused}).rowcount > 0

        return await self._database.write(change)

    def settled(self, events: int) -> None:
        """Count so many events less as pending, once that is committed."""
        self.pending -= events


def _read_states(raw: sqlite3.Connection) -> list[AppState]:
    rows = raw.execute(SQL["apps"]).fetchall()
    return [AppState(no, app, bool(paused), Counts(*counts)) for no, app, paused, *counts in rows]
