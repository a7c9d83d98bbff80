"""How fast relay acknowledges, as a ratio to a bare aiohttp application under the same load.

Both run in turn, A B A B …, with the same load generator (`wrk`), the same bodies and
the same number of connections. relay delivers meanwhile to a sink that accepts everything, so
the figure includes parsing, mapping, deduplication, the sync before each answer, uploads,
settlement and pruning; the bare application reads, parses and answers.

    python tests/bench/acknowledgements.py [--seconds 6] [--rounds 3] [--connections 32]
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TOKEN = "webhook-token-of-the-benchmark"
APP_ID = "11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True)
class Run:
    """Results of one run of the load generator."""

    rate: float
    p50_ms: float
    p99_ms: float


def free_port() -> int:
    """Return a port with no listener."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


@contextmanager
def process(words: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; it listens on `port` when the block begins."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("RELAY_")}  # noqa: TID251
    with subprocess.Popen(words, env={**clean, **environment}) as server:
        try:
            deadline = time.monotonic() + 10
            while True:
                with socket.socket() as door:
                    if door.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if time.monotonic() > deadline or server.poll() is not None:
                    raise SystemExit(f"{words} does not listen")
                time.sleep(0.02)
            yield server
        finally:
            server.send_signal(signal.SIGTERM)


def load(port: int, prefix: str, options: argparse.Namespace) -> Run:
    """Load one server and return the generator's results."""
    words = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency"]
    words += ["-s", str(HERE / "load.lua"), f"http://127.0.0.1:{port}"]
    words += ["--", "/v1/apps/shop/events", TOKEN, prefix]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return read_run(out)


def read_run(out: str) -> Run:
    """Parse the generator's output."""
    if "Non-2xx" in out:
        raise SystemExit(f"not every answer was 200:\n{out}")
    return Run(
        rate=float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),  # type: ignore[index]
        p50_ms=_milliseconds(out, "50%"),
        p99_ms=_milliseconds(out, "99%"),
    )


def _milliseconds(out: str, percentile: str) -> float:
    found = re.search(rf"\s{percentile}\s+([\d.]+)(us|ms|s)", out)
    if not found:
        raise SystemExit(f"the load generator did not tell its {percentile}:\n{out}")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def relay_environment(folder: str, port: int, admin_port: int, sink_port: int) -> dict[str, str]:
    """Return the settings of the relay under test: defaults, except for addresses."""
    return {
        "RELAY_DATA_DIR": folder,
        "RELAY_LISTEN": f"127.0.0.1:{port}",
        "RELAY_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "RELAY_LOG_LEVEL": "warning",
        "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": APP_ID,
        "RELAY_APPS__SHOP__WEBHOOK_TOKENS": TOKEN,
        "RELAY_APPS__SHOP__AMPLITUDE_API_KEY": "amplitude-key-of-the-benchmark",
        "RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL": f"http://127.0.0.1:{sink_port}",
    }


def main() -> None:
    """Measure and print the ratios, round by round and as medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("this needs wrk (Debian package wrk)")
    bare_port, sink_port, port, admin_port = (free_port() for _ in range(4))
    servers = [sys.executable, str(HERE / "servers.py")]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-"))
        stack.enter_context(process([*servers, "bare", str(bare_port)], bare_port))
        stack.enter_context(process([*servers, "sink", str(sink_port)], sink_port))
        environment = relay_environment(folder, port, admin_port, sink_port)
        stack.enter_context(process([sys.executable, "-m", "relay", "serve"], port, **environment))
        pairs = [
            (load(bare_port, f"b{number}", options), load(port, f"r{number}", options))
            for number in range(options.rounds)
        ]
        status = urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/api/v1/status").read()
    for bare, ours in pairs:
        print(
            f"bare {bare.rate:8.0f}/s p50 {bare.p50_ms:5.2f} p99 {bare.p99_ms:5.2f} ms   "
            f"relay {ours.rate:8.0f}/s p50 {ours.p50_ms:5.2f} p99 {ours.p99_ms:5.2f} ms   "
            f"rate ratio {ours.rate / bare.rate:.2f}  p99 ratio {ours.p99_ms / bare.p99_ms:.2f}"
        )
    rate = statistics.median(ours.rate / bare.rate for bare, ours in pairs)
    p99 = statistics.median(ours.p99_ms / bare.p99_ms for bare, ours in pairs)
    print(f"median: rate ratio {rate:.2f} (at least 0.40), p99 ratio {p99:.2f} (at most 4)")
    print(status.decode())


if __name__ == "__main__":
    main()
