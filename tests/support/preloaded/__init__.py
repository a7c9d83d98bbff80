"""`relay` without its start-up: commands are forked from a process that has imported it.

Half a second of imports for each of some hundred commands is most of what the fast tests would
take. A command started here is a process of its own all the same: its environment, folder,
standard streams, signals and exit status are those of `python -m relay`.

`server` imports relay and forks; `client` stands in the tests' process table for the command,
hands its surroundings over and passes signals on. Tests that look at the process itself, trace it
or kill it at a chosen moment start the real one.
"""

import atexit
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.support.preloaded import client

ROOT = Path(__file__).parents[3]


def command(words: Sequence[str]) -> list[str]:
    """Return what to execute instead of `python -m relay` and these words."""
    return [sys.executable, "-IS", client.__file__, _server(), *words]


@cache
def _server() -> str:
    """Start the server, once for all tests; return where it listens."""
    folder = tempfile.TemporaryDirectory(prefix="relay-")
    place = str(Path(folder.name) / "preloaded")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.preloaded.server", place],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)  # the end of its input ends it
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return place
