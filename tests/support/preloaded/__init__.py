"""Runs `relay` without its start-up: each command is a fork of a process that has imported relay.

The imports take half a second, and the fast tests run hundreds of commands. A forked command is
still a process of its own, with the environment, folder, standard streams, signals and exit status
of `python -m relay`.

`server` imports relay and forks. `client` is the process that the test starts: it hands over its
environment and streams, forwards signals and ends with the command's exit status. Tests that
trace, inspect or kill a relay process start the real command instead.
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
    """Return the command line that stands in for `python -m relay` with these words."""
    return [sys.executable, "-IS", client.__file__, _server(), *words]


@cache
def _server() -> str:
    """Start the server, once for all tests; return the path of its socket."""
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
