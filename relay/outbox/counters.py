"""The apps of an outbox and their counts: `accepted = pending + delivered + dead + discarded`.

A count changes only in the transaction that changes the rows it counts, so the numbers are true
after any crash, and a start need not count rows.
"""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from relay.database.database import Database
from relay.outbox.sql import SQL


@dataclass(frozen=True, slots=True)
class Counts:
    """An app's counts, as totals or as differences.

    Attributes:
        accepted: Distinct events ever accepted.
        delivered: Events Amplitude confirmed.
        dead: Events among the dead letters now.
        discarded: Events an operator discarded, events of forgotten users, and lost ones.
        duplicate: Events recognised as repetitions.
        filtered: Events the configuration leaves out.
        quarantined: Bodies ever put into quarantine.
        lost: The part of `discarded` that damage to the disk took.
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
        """Accepted events that Amplitude has yet to confirm."""
        return self.accepted - self.delivered - self.dead - self.discarded

    def add(self, raw: sqlite3.Connection, app: int) -> None:
        """Add these differences to the counts of app number `app`, inside a transaction."""
        steps = {name: getattr(self, name) for name in self.__slots__}
        raw.execute(SQL["count"], {"app": app, **steps})


@dataclass(frozen=True, slots=True)
class AppState:
    """An app as the outbox knows it: its number, whether an operator paused it, its counts."""

    no: int
    app: str
    is_paused: bool
    counts: Counts


class AppCounters:
    """The apps of an outbox: their numbers, counts and pauses.

    Attributes:
        pending: Pending events of all apps; follows every commit.
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
        """Return every app, by name, with its counts."""
        return {state.app: state for state in await self._database.read(_read_states)}

    async def set_paused(self, app: str, *, paused: bool) -> bool:
        """Record that an operator paused or resumed `app`; False if it was so already."""
        no = self.number(app)

        def change(raw: sqlite3.Connection) -> bool:
            return raw.execute(SQL["pause"], {"app": no, "paused": paused}).rowcount > 0

        return await self._database.write(change)

    def settled(self, events: int) -> None:
        """Subtract settled events from `pending`, once their settlement is committed."""
        self.pending -= events


def _read_states(raw: sqlite3.Connection) -> list[AppState]:
    rows = raw.execute(SQL["apps"]).fetchall()
    return [AppState(no, app, bool(paused), Counts(*counts)) for no, app, paused, *counts in rows]
