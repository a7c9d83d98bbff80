"""What a backlog costs: memory and start time with 100,000 events pending.

python tests/bench/backlog.py [--events 100000]
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio
import psutil

from relay.clock import SystemClock
from relay.events.batch import IngestBatch
from relay.events.mapping import MappedEvent
from relay.heartbeat import Heartbeat
from relay.outbox.store import lock_folder, open_outbox
from tests.bench.acknowledgements import free_port, process, relay_environment

CHUNK = 1_000
SETTLE_S = 5
BODY = b'{"insert_id":"id-%%d","event_type":"[OneSignal] Push Clicked","text":"%b"}' % (b"x" * 720)


async def fill(folder: Path, events: int) -> None:
    """Append events of many devices to an outbox."""
    heartbeat = Heartbeat(SystemClock())
    with lock_folder(folder):
        async with open_outbox(folder, ["shop"], max_events=events, heartbeat=heartbeat) as outbox:
            app = outbox.counters.number("shop")
            for first in range(0, events, CHUNK):
                batch = IngestBatch(app, SystemClock().now_ms())
                batch.events += [
                    MappedEvent(f"id-{n}", f"device-{n % 50_000}", None, "", 0, BODY % n)
                    for n in range(first, first + CHUNK)
                ]
                await outbox.writer.append(batch)


def start(folder: Path) -> tuple[float, float, float]:
    """Start relay on the folder while Amplitude is down.

    Returns:
        Seconds until it accepts events, resident MB at that moment and some seconds later.
    """
    ports = [free_port() for _ in range(3)]
    environment = relay_environment(str(folder), *ports)
    began_s = time.monotonic()
    with process([sys.executable, "-m", "relay", "serve"], ports[0], **environment) as daemon:
        ready_s = time.monotonic() - began_s  # the public door opens last
        seen = psutil.Process(daemon.pid)
        first_mb = seen.memory_info().rss / 1e6
        time.sleep(SETTLE_S)
        return ready_s, first_mb, seen.memory_info().rss / 1e6


def main() -> None:
    """Fill, start, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        anyio.run(partial(fill, Path(name), options.events))
        size_mb = sum(file.stat().st_size for file in Path(name).iterdir()) / 1e6
        ready_s, first_mb, later_mb = start(Path(name))
    print(f"{options.events} events waiting, {size_mb:.0f} MB on disk")
    print(f"start until events are taken: {ready_s:.2f} s (under 2 s)")
    print(f"resident: {first_mb:.0f} MB at once, {later_mb:.0f} MB later (under 150 MB)")


if __name__ == "__main__":
    main()
