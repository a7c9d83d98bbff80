"""Real outboxes in temporary folders, and events to put into them."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import orjson

from relay.clock import Clock
from relay.database.ballast import BallastFile
from relay.events.batch import IngestBatch
from relay.events.mapping import MappedEvent
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Waiting
from relay.outbox.counters import Counts
from relay.outbox.spans import decode_spans
from relay.outbox.store import DATABASE_NAME, Outbox, open_outbox
from relay.outbox.writer import AppendResult
from tests.support.clocks import START_MS, FakeClock

APP = "demo"
OTHER = "other"
MIN_FREE_BYTES = 1 << 20


def mapped(
    insert_id: str, *, device_id: str | None = "device-1", user_id: str | None = "user-1"
) -> MappedEvent:
    """Return an event with the given ids, as mapping makes it."""
    event: dict[str, object] = {
        "event_type": "[OneSignal] Push Clicked",
        "time": START_MS,
        "insert_id": insert_id,
    }
    if device_id is not None:
        event["device_id"] = device_id
    if user_id is not None:
        event["user_id"] = user_id
    body = orjson.dumps(event)
    return MappedEvent(insert_id, device_id, user_id, str(event["event_type"]), START_MS, body)


@asynccontextmanager
async def running_outbox(
    folder: Path,
    apps: Collection[str] = (APP, OTHER),
    *,
    max_events: int = 1_000_000,
    clock: Clock | None = None,
) -> AsyncIterator[Outbox]:
    """Open the outbox of `folder` with a running writer and a ballast."""
    await anyio.Path(folder).mkdir(exist_ok=True)
    ballast = BallastFile(folder, MIN_FREE_BYTES)
    ballast.prepare_opening()
    async with open_outbox(
        folder,
        apps,
        max_events=max_events,
        heartbeat=Heartbeat(FakeClock()),
        make_room=ballast.make_room,
        clock=clock,
    ) as outbox:
        yield outbox


async def append(
    outbox: Outbox, *events: MappedEvent | str, app: str = APP, at_ms: int = START_MS
) -> AppendResult:
    """Store events, given by their ids where nothing else matters."""
    whole = [mapped(event) if isinstance(event, str) else event for event in events]
    return await outbox.writer.append(IngestBatch(outbox.counters.number(app), at_ms, whole))


async def waiting(outbox: Outbox, app: str = APP) -> list[Waiting]:
    """Return every event row of an app, in order."""
    events, _ = await outbox.claims.read_after(outbox.counters.number(app), 0, 1_000_000)
    return events


async def counts(outbox: Outbox, app: str = APP) -> Counts:
    """Return an app's counts."""
    return (await outbox.counters.states())[app].counts


async def limit_pages(outbox: Outbox, pages: int) -> None:
    """Limit the file to this many pages, or to its present size if larger."""
    pragma = f"PRAGMA max_page_count={pages}"
    await outbox.database.write(lambda raw: raw.execute(pragma).fetchall())


@asynccontextmanager
async def busy_writer(outbox: Outbox) -> AsyncIterator[None]:
    """Keep the writer busy with a change of its own while the body runs."""
    is_over = threading.Event()
    async with _alongside(partial(outbox.database.write, lambda _: is_over.wait(5)), is_over):
        yield


@asynccontextmanager
async def busy_reader(outbox: Outbox) -> AsyncIterator[None]:
    """Keep the reading connection busy while the body runs."""
    is_over = threading.Event()
    async with _alongside(partial(outbox.database.read, lambda _: is_over.wait(5)), is_over):
        yield


@asynccontextmanager
async def _alongside(
    work: Callable[[], Coroutine[Any, Any, bool]], is_over: threading.Event
) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        try:
            yield
        finally:
            is_over.set()


def pending_event(
    seq: int, device_id: str | None = "d", user_id: str | None = "u", size_bytes: int = 10
) -> Waiting:
    """Return a pending event as the outbox reads it."""
    ordering_key = f"u:{user_id}" if device_id is None else f"d:{device_id}"
    return Waiting(seq, ordering_key, device_id, user_id, size_bytes, accepted_at=START_MS)


@dataclass(frozen=True)
class Census:
    """The rows in the tables, counted independently.

    Attributes:
        pending: Insert ids of events no receipt covers, in order.
        delivered: Insert ids of events that a receipt covers and that are not pruned.
        dead: Insert ids of dead letters, by id.
    """

    pending: list[str]
    delivered: list[str]
    dead: list[str]


def census(folder: Path, app: str = APP) -> Census:
    """Count the rows of an outbox file without relay's code."""
    with closing(sqlite3.connect(f"file:{folder / DATABASE_NAME}?mode=ro", uri=True)) as raw:
        (no,) = raw.execute("SELECT no FROM apps WHERE app = ?", (app,)).fetchone()
        spans = raw.execute("SELECT spans FROM receipts").fetchall()
        covered = {seq for (text,) in spans for seq in decode_spans(text)}
        rows = raw.execute("SELECT seq, body FROM events WHERE app = ? ORDER BY seq", (no,))
        ids = [(seq, str(orjson.loads(body)["insert_id"])) for seq, body in rows]
        dead = raw.execute("SELECT insert_id FROM dead_letters WHERE app = ? ORDER BY id", (no,))
        return Census(
            pending=[name for seq, name in ids if seq not in covered],
            delivered=[name for seq, name in ids if seq in covered],
            dead=[name for (name,) in dead],
        )
