"""Imports relay once; every connection is a command, which runs in a fork of this process."""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import relay

STREAMS = 3
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Running:
    """A command that was forked.

    Attributes:
        pid: Its process.
        caller: Whoever waits for its end.
    """

    pid: int
    caller: socket.socket


class Server:
    """Forks a command for every caller, and tells how it ended."""

    def __init__(self, place: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(place)
        self._listener.listen(128)
        self._watched = selectors.DefaultSelector()
        self._watched.register(self._listener, selectors.EVENT_READ)
        self._watched.register(sys.stdin, selectors.EVENT_READ)
        self._running: dict[int, Running] = {}

    def serve(self) -> Mapping[str, Any] | None:
        """Return in every fork what it is to run; None in this process, once its input ends."""
        while True:
            for key, _ in self._watched.select():
                if key.fileobj is sys.stdin:
                    for command in self._running.values():
                        os.kill(command.pid, signal.SIGKILL)
                    return None
                if key.fileobj is self._listener:
                    asked = self._begin()
                    if asked is not None:
                        return asked
                else:
                    self._end(key.data, key.fd)

    def _begin(self) -> Mapping[str, Any] | None:
        caller, _ = self._listener.accept()
        text, streams, _, _ = socket.recv_fds(caller, CHUNK_BYTES, STREAMS)
        while not text.endswith(b"\n"):
            text += caller.recv(CHUNK_BYTES)
        pid = os.fork()
        if pid:
            for stream in streams:
                os.close(stream)
            self._watch(Running(pid, caller))
            return None
        self._close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        asked: Mapping[str, Any] = json.loads(text)
        return asked

    def _watch(self, command: Running) -> None:
        end = os.pidfd_open(command.pid)
        self._running[end] = command
        self._watched.register(end, selectors.EVENT_READ, end)
        self._watched.register(command.caller, selectors.EVENT_READ, end)
        command.caller.sendall(b"%d\n" % command.pid)

    def _end(self, end: int, ready: int) -> None:
        """Tell the caller how its command ended, or end the command of a caller that is gone."""
        command = self._running.get(end)
        if command is None:
            return
        if ready != end:
            os.kill(command.pid, signal.SIGKILL)
        _, status = os.waitpid(command.pid, 0)
        with contextlib.suppress(BrokenPipeError):
            command.caller.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        self._watched.unregister(end)
        self._watched.unregister(command.caller)
        command.caller.close()
        os.close(end)
        del self._running[end]

    def _close(self) -> None:
        """Let go, in a fork, of what is the server's."""
        for end, command in self._running.items():
            os.close(end)
            command.caller.close()
        self._watched.close()
        self._listener.close()


def _import_all() -> None:
    for module in pkgutil.walk_packages(relay.__path__, "relay."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # a fork that collects would copy every page it touches


def _become(asked: Mapping[str, Any]) -> None:
    """Run the command as if it had been started just now."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()  # noqa: TID251  # the command's own
    os.environ.update(asked["environment"])  # noqa: TID251
    os.chdir(asked["folder"])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # a descriptor, for good
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["relay", *asked["words"]]
    runpy.run_module("relay", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_all()
    server = Server(sys.argv[1])
    print("ready", flush=True)  # noqa: T201  # whoever started this waits for it
    wanted = server.serve()
    if wanted is not None:
        _become(wanted)
