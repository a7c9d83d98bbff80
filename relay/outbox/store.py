"""The outbox as a whole: locked, recovered, opened; its parts go to those that use them."""

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import anyio

from relay.clock import DAY_MS, Clock, SystemClock
from relay.database.counters_sidecar import CountersSidecar, sidecar_path
from relay.database.database import Database, open_database
from relay.database.recovery.recover import mark_unclean_on_error, recover
from relay.errors import StoreBusy, StoreFailed
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Claims, reopen_claims
from relay.outbox.counters import AppCounters
from relay.outbox.dead_letters import DeadLetters
from relay.outbox.dedup import DedupIndex
from relay.outbox.erasure import OutboxErasure
from relay.outbox.message_cache import MessageCache
from relay.outbox.quarantine import Quarantine
from relay.outbox.recovery import outbox_recovery_spec, read_record
from relay.outbox.retention import Retention
from relay.outbox.sql import MIGRATIONS, SQL
from relay.outbox.steady_time import SteadyTime
from relay.outbox.writer import OutboxWriter

DATABASE_NAME = "outbox.db"
LOCK_NAME = "relay.lock"


@dataclass(frozen=True, slots=True)
class Outbox:
    """An open outbox, in parts.

    Attributes:
        database: The engine; its `run` commits what the parts write.
        counters: Apps, counts and pauses.
        writer: The way in.
        claims: The way out.
        dead_letters: Events Amplitude will never accept.
        quarantine: Bodies not understood.
        message_cache: Contents of messages.
        retention: Removes what is past its days.
        erasure: Removes forgotten users.
    """

    database: Database
    counters: AppCounters
    writer: OutboxWriter
    claims: Claims
    dead_letters: DeadLetters
    quarantine: Quarantine
    message_cache: MessageCache
    retention: Retention
    erasure: OutboxErasure


@dataclass(frozen=True, slots=True)
class _Found:
    """What the tables say at the start.

    Attributes:
        unpruned: Sequence numbers of delivered events whose rows are still there.
        dedup: Dedup keys that only rows of `events` have.
        last_seq: The highest sequence number ever given.
        last_claim: The highest claim id.
    """

    unpruned: set[int]
    dedup: DedupIndex
    last_seq: int
    last_claim: int


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the data directory for this process; create it, for its owner alone, if missing.

    Raises:
        StoreBusy: If another process has it.
        StoreFailed: If it cannot be created or written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreFailed(
            f"the data directory {folder} cannot be used: {error.strerror}"
        ) from error
    try:
        # The kernel releases this lock however the process ends; a file with a pid would stay.
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusy(f"the data directory {folder} is in use by another relay") from error
        yield
    finally:
        os.close(handle)


@asynccontextmanager
async def open_outbox(
    folder: Path,
    apps: Collection[str],
    *,
    max_events: int,
    heartbeat: Heartbeat,
    make_room: Callable[[], None] = lambda: None,
    clock: Clock | None = None,
) -> AsyncIterator[Outbox]:
    """Open the outbox of a folder this process has locked, with its writer running.

    Events that a former process had claimed are pending again. A damaged database is archived
    first, and what can be read of it is saved.

    Args:
        folder: The data directory.
        apps: Names of the configured apps.
        max_events: Pending events past which new ones are refused.
        heartbeat: The writer's.
        make_room: Called when the disk is full; may free space.
        clock: The time; the machine's by default.

    Raises:
        StoreError: If the database cannot be used.
    """
    path, clock = (folder / DATABASE_NAME).resolve(), clock or SystemClock()
    recovery = partial(recover, path, outbox_recovery_spec(apps), clock.now_ms())
    await anyio.to_thread.run_sync(recovery)
    sidecar = CountersSidecar(sidecar_path(path), read_record)
    with mark_unclean_on_error(path):
        async with (
            open_database(path, MIGRATIONS, heartbeat, make_room, sidecar) as database,
            begin_outbox(database, apps, max_events=max_events, clock=clock) as outbox,
        ):
            yield outbox


@asynccontextmanager
async def begin_outbox(
    database: Database,
    apps: Collection[str],
    *,
    max_events: int,
    clock: Clock | None = None,
) -> AsyncIterator[Outbox]:
    """Run the writer of an open database, as `open_outbox` does; commit everything at the end."""
    async with anyio.create_task_group() as group:
        await group.start(database.run, name="outbox writer")
        yield await _assemble(database, apps, clock or SystemClock(), max_events)
        await database.flush()
        group.cancel_scope.cancel()


async def _assemble(
    database: Database, apps: Collection[str], clock: Clock, max_events: int
) -> Outbox:
    found = await database.write(_recover)
    steady_time = await SteadyTime.load(database, clock)
    counters = await AppCounters.load(database, apps)
    seqs = count(found.last_seq + 1)  # one order for new events and retried dead letters
    claims = Claims(database, counters, steady_time, found.last_claim, found.unpruned)
    dead_letters = DeadLetters(database, counters, seqs)
    quarantine = Quarantine(database, counters)
    return Outbox(
        database=database,
        counters=counters,
        writer=OutboxWriter(database, counters, found.dedup, seqs, max_events),
        claims=claims,
        dead_letters=dead_letters,
        quarantine=quarantine,
        message_cache=MessageCache(database),
        retention=Retention(database, found.dedup, steady_time, clock),
        erasure=OutboxErasure(database, counters, claims, dead_letters, quarantine),
    )


def _recover(raw: sqlite3.Connection) -> _Found:
    """Release the claims of a former process, and read where it ended."""
    # Read before the claims are released: their rows go then.
    (last_claim,) = raw.execute(SQL["last_claim"]).fetchone()
    unpruned = reopen_claims(raw)
    (last_seq,) = raw.execute(SQL["last_seq"]).fetchone()
    unflushed = raw.execute(SQL["unflushed"])
    dedup = DedupIndex(((key, accepted_at // DAY_MS) for key, accepted_at in unflushed), last_seq)
    return _Found(unpruned, dedup, last_seq, last_claim)
