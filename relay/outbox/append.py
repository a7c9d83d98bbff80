"""One transaction of the way in: recognise repetitions, store, count.

A key decides whether an event is new: keys since the last fold are in memory (`DedupIndex`), older
ones on disk, and the disk is asked by the very statement that inserts.
"""

import sqlite3
from collections.abc import Sequence
from itertools import count

import orjson

from relay.events.mapping import MappedEvent
from relay.outbox.batch import DAY_MS, AppendResult, DedupIndex, IngestBatch, dedup_key
from relay.outbox.counters import Counts
from relay.outbox.sql import SQL


class AppendTransaction:
    """The open end of the line: intakes that share the next transaction."""

    __slots__ = ("_keys", "_seqs", "accepted", "fresh", "intakes", "last_seq")

    def __init__(self, keys: DedupIndex, seqs: "count[int]") -> None:
        self._keys = keys
        self._seqs = seqs
        self.intakes: list[IngestBatch] = []
        self.fresh: dict[bytes, int] = {}
        self.last_seq = 0
        self.accepted: dict[int, int] = {}

    def __call__(self, raw: sqlite3.Connection) -> list[AppendResult]:
        """Store every intake; return an answer for each."""
        self.fresh = {}
        void = {id(intake) for intake in self.intakes if not _leaves_quarantine(raw, intake)}
        accepted = self._insert_events(raw)
        taken = []
        steps: dict[int, list[int]] = {}
        for intake, new in zip(self.intakes, accepted, strict=True):
            repeated = len(intake.events) - new
            taken.append(AppendResult(new, repeated, id(intake) in void))
            step = steps.setdefault(intake.app, [0, 0, 0, 0])
            step[0] += new
            step[1] += repeated
            if intake.filtered or intake.quarantined or intake.messages:
                step[2] += intake.filtered
                step[3] += len(intake.quarantined)
                _insert_others(raw, intake)
        for app, (new, repeated, filtered, quarantined) in steps.items():
            counts = Counts(
                accepted=new, duplicate=repeated, filtered=filtered, quarantined=quarantined
            )
            counts.add(raw, app)
        self.accepted = {app: step[0] for app, step in steps.items()}
        return taken

    def _insert_events(self, raw: sqlite3.Connection) -> Sequence[int]:
        """Insert what is new; return how many events of each intake were."""
        accepted = [0] * len(self.intakes)
        group = _Group()
        owners: list[int] = []
        known, fresh, seqs = self._keys.days, self.fresh, self._seqs
        for place, intake in enumerate(self.intakes):
            for event in intake.events:
                key = dedup_key(intake.app, event.insert_id, event.scope)
                if key in known or key in fresh:
                    continue
                fresh[key] = intake.received_at // DAY_MS
                group.add(next(seqs), key, intake, event)
                owners.append(place)
                accepted[place] += 1
        for index in group.insert(raw):
            accepted[owners[index]] -= 1
            del fresh[group.keys[index]]
        self.last_seq = group.last_seq
        return accepted


class _Group:
    """New events of a transaction, laid out for one statement."""

    __slots__ = ("_bodies", "_place", "_rows", "keys")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self._rows: list[tuple[int, int, str | None, str | None, int, int, int]] = []
        self._bodies: list[bytes] = []
        self._place = 1

    def add(self, seq: int, key: bytes, intake: IngestBatch, event: MappedEvent) -> None:
        """Add an event; sequence numbers must rise."""
        body = event.body
        ids = event.device_id, event.user_id
        self._rows.append((seq, intake.app, *ids, intake.received_at, self._place, len(body)))
        self._place += len(body)
        self.keys.append(key)
        self._bodies.append(body)

    @property
    def last_seq(self) -> int:
        """The highest sequence number, 0 without events."""
        return self._rows[-1][0] if self._rows else 0

    def insert(self, raw: sqlite3.Connection) -> list[int]:
        """Insert the events; return the places of those that the disk already knew."""
        if not self._rows:
            return []
        parameters = {
            "rows": orjson.dumps(self._rows).decode(),
            "keys": b"".join(self.keys),
            "bodies": b"".join(self._bodies),
        }
        if raw.execute(SQL["append"], parameters).rowcount == len(self._rows):
            return []
        span = {"first": self._rows[0][0], "last": self.last_seq}
        added = {seq for (seq,) in raw.execute(SQL["appended"], span)}
        return [index for index, row in enumerate(self._rows) if row[0] not in added]


def _leaves_quarantine(raw: sqlite3.Connection, intake: IngestBatch) -> bool:
    """Remove the quarantined body an intake was read from; empty the intake if it is gone."""
    if intake.quarantine_id is None:
        return True
    named = orjson.dumps([intake.quarantine_id]).decode()
    is_there = raw.execute(SQL["drop_quarantined"], {"ids": named}).rowcount > 0
    if not is_there:
        intake.empty()
    return is_there


def _insert_others(raw: sqlite3.Connection, intake: IngestBatch) -> None:
    """Store what an intake holds besides events."""
    raw.executemany(
        SQL["add_quarantined"],
        [
            (intake.app, body.hook, body.reason, body.detail, intake.received_at, body.body)
            for body in intake.quarantined
        ],
    )
    day = intake.received_at // DAY_MS
    raw.executemany(
        SQL["keep_message"],
        [(intake.app, message_id, fields, day) for message_id, fields in intake.messages],
    )
