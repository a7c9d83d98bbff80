"""Judges a run: checks relay's tables against what OneSignal was told and Amplitude has.

Every deviation is a sentence; one is enough to fail a run.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from relay.outbox.counters import Counts
from relay.outbox.spans import decode_spans
from tests.simulation.amplitude import Project
from tests.simulation.app import App
from tests.simulation.scenario import FaultPeriod, Scenario

# Source: the outbox's schema. The tables are read without relay's own queries.
APPS = "SELECT no, app, accepted, delivered, dead, discarded, duplicate FROM apps"
EVENTS = "SELECT seq, app, key FROM events"
DEAD_LETTERS = "SELECT app, key, reason, first_tried_at, died_at FROM dead_letters"
LEFT = (
    "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM claims),"
    " (SELECT count(*) FROM receipts), (SELECT count(*) FROM tries)"
)

OUTAGES = frozenset({"refused", "lost", "500", "502", "503", "504", "200_html", "200_cut", "429"})
"""Fault kinds under which no upload is ever confirmed, refused or judged."""


@dataclass
class Rows:
    """One app's rows in the tables.

    Attributes:
        counts: As the app's row says.
        pending: Insert ids of events that no receipt covers.
        delivered: Insert ids of events that a receipt covers.
        untried: The pending ones without a claim or a recorded attempt.
        dead: The reason of each dead letter, by insert id.
        ages_ms: From the first attempt of each dead letter to its dead-lettering.
    """

    counts: Counts
    pending: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)
    untried: set[str] = field(default_factory=set)
    dead: dict[str, str] = field(default_factory=dict)
    ages_ms: dict[str, int] = field(default_factory=dict)


class Oracle:
    """Judges a run.

    Attributes:
        wrong: What was found, in sentences.
    """

    def __init__(
        self, scenario: Scenario, apps: Mapping[str, App], raw: sqlite3.Connection
    ) -> None:
        self._scenario = scenario
        self._apps = apps
        self._raw = raw
        self.wrong: list[str] = []

    def blame(self, sentence: str) -> None:
        """Record a deviation."""
        self.wrong.append(sentence)

    # At any moment.

    def observe(self) -> dict[str, Rows]:
        """Check the tables against everything known, between two transactions."""
        found = self._read()
        for name, rows in found.items():
            for sentence in self._departures(self._apps[name], rows):
                self.blame(f"{name}: {sentence}")
        return found

    def _read(self) -> dict[str, Rows]:
        cursor = self._raw.cursor()
        found, of, names = {}, {}, {}
        for no, name, accepted, delivered, dead, discarded, duplicate in cursor.execute(APPS):
            counts = Counts(accepted, delivered, dead, discarded, duplicate)
            of[no] = found[name] = Rows(counts)
            names[no] = self._apps[name]
        covered = _covered(cursor, "SELECT spans FROM receipts")
        tried = _covered(cursor, "SELECT spans FROM claims")
        tried.update(seq for (seq,) in cursor.execute("SELECT seq FROM tries"))
        for seq, no, key in cursor.execute(EVENTS):
            where = of[no].delivered if seq in covered else of[no].pending
            name = names[no].name(no, key)
            if name in of[no].pending or name in of[no].delivered:
                self.blame(f"{name} is stored twice")
            where.add(name)
            if seq not in tried and seq not in covered:
                of[no].untried.add(name)
        for no, key, reason, first_tried_at, died_at in cursor.execute(DEAD_LETTERS):
            name = names[no].name(no, key)
            of[no].dead[name] = reason
            of[no].ages_ms[name] = died_at - (first_tried_at or died_at)
            names[no].died.add(name)
        return found

    def _departures(self, app: App, rows: Rows) -> Iterator[str]:
        counts, record = rows.counts, app.project.record
        yield from app.step(counts)
        if counts.pending != len(rows.pending):
            yield f"{counts.pending} are said to be pending, {len(rows.pending)} are"
        if counts.dead != len(rows.dead):
            yield f"{counts.dead} are said to be dead, {len(rows.dead)} are"
        acked = app.source.acked
        if not len(acked) <= counts.accepted <= len(app.source.fates):
            yield f"{len(acked)} were answered, {counts.accepted} are said to be accepted"
        kept = rows.pending | rows.delivered | rows.dead.keys()
        yield from _named("lost", acked - kept - record.confirmed - app.discardable)
        yield from _named("not confirmed but delivered", rows.delivered - record.confirmed)
        yield from _named("sent without a trace", rows.untried & app.first_sent_s.keys())
        yield from _named("dead and waiting", (rows.pending | rows.delivered) & rows.dead.keys())
        for name, reason in rows.dead.items():
            if reason == "expired":
                if rows.ages_ms[name] < self._scenario.max_age_s * 1000:
                    yield f"{name} expired after {rows.ages_ms[name]} ms"
            elif reason not in record.offered[name]:
                yield f"{name} died of {reason}, which Amplitude never said"

    # At the end.

    def judge(self) -> None:
        """Check everything against everything, once all is drained."""
        for name, rows in self.observe().items():
            for sentence in self._imbalances(self._apps[name], rows):
                self.blame(f"{name}: {sentence}")
        for table, count in self.left().items():
            self.blame(f"{count} rows are left in {table}")

    def left(self) -> dict[str, int]:
        """Return how many rows each table of work in flight holds, empty ones aside."""
        counts = self._raw.cursor().execute(LEFT).fetchone()
        named = zip(("events", "claims", "receipts", "tries"), counts, strict=True)
        return {table: count for table, count in named if count}

    def _imbalances(self, app: App, rows: Rows) -> Iterator[str]:
        counts, record = rows.counts, app.project.record
        yield from _named("still pending", rows.pending)
        unanswered = set(app.source.fates) - app.source.acked - app.discardable
        yield from _named("never answered", unanswered)
        often = {name for name, times in record.counted.items() if times > 1}
        yield from _named("counted more than once", often - app.doubtful)
        yield from _named("out of nowhere", record.counted.keys() - app.source.fates.keys())
        gone = set(app.source.fates) - rows.dead.keys() - app.discardable
        yield from _named("lost at last", gone - record.counted.keys())
        if counts.delivered > len(record.confirmed):
            yield f"{counts.delivered} are said to be delivered, {len(record.confirmed)} are"
        if counts.delivered < len(gone):
            yield f"{counts.delivered} are said to be delivered, {len(gone)} must be"
        yield from self._disorder(app)
        yield from self._storms(app.project)

    def _disorder(self, app: App) -> Iterator[str]:
        """Yield events counted before others of their device that were answered earlier.

        An event that was refused alone may be overtaken: the next events are to prove that
        Amplitude refuses it and not everything.
        """
        fates, offered = app.source.fates, app.project.record.offered
        for key, names in app.project.record.order.items():
            last_sent, later = -1, ""
            for name in names:
                fate = fates[name]
                is_regular = not (name in app.died or name in app.discardable or name in offered)
                if is_regular and fate.acked_step is not None and fate.acked_step < last_sent:
                    yield f"{later} of {key} came before {name}, which was answered before it came"
                if is_regular and fate.sent_step > last_sent:
                    last_sent, later = fate.sent_step, name

    def _storms(self, project: Project) -> Iterator[str]:
        """Yield outages that relay made worse."""
        for place, period in enumerate(project.fault_periods):
            bound = self._most_uploads(period, project.helped[place])
            if bound is not None and project.sent[place] > bound:
                yield f"{project.sent[place]} uploads in {period}, where {bound:.0f} are plenty"

    def _most_uploads(self, period: FaultPeriod, begins: int) -> float | None:
        """Return how many uploads an outage may see, None if its kind has no bound.

        Args:
            period: The outage.
            begins: Processes started and operators' resumes during it.
        """
        scenario, length_s = self._scenario, period.ends_s - period.begins_s
        if period.kind in OUTAGES:
            again = 4 * length_s / scenario.backoff_cap_s
        elif period.kind == "wrong_key":
            again = length_s / scenario.halt_probe_s
        else:
            return None
        return again + (1 + begins) * (scenario.senders + 16)


def _covered(cursor: sqlite3.Cursor, query: str) -> set[int]:
    rows = cursor.execute(query).fetchall()
    return {seq for (spans,) in rows for seq in decode_spans(spans)}


def _named(fate: str, names: "set[str] | Sequence[str]") -> Iterator[str]:
    for name in sorted(names)[:3]:
        yield f"{name} is {fate}"
