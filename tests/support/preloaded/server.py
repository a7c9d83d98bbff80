"""Imports relay once and forks a command for each connection."""

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


@dataclass(frozen=True, eq=False)
class Running:
    """A forked command.

    Attributes:
        pid: Its process.
        end: The descriptor that becomes readable when it ends.
        client: The connection of the process that waits for its exit status.
    """

    pid: int
    end: int
    client: socket.socket

    def close(self) -> None:
        """Forget it; the process goes on."""
        os.close(self.end)
        self.client.close()


class Server:
    """Forks a command for each client and sends it the exit status."""

    def __init__(self, place: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(place)
        self._listener.listen(128)
        self._watched = selectors.DefaultSelector()
        self._watched.register(self._listener, selectors.EVENT_READ)
        self._watched.register(sys.stdin, selectors.EVENT_READ)
        self._running: set[Running] = set()

    def serve(self) -> Mapping[str, Any] | None:
        """Return the request in each fork, and None in this process when its input ends."""
        while True:
            for key, _ in self._watched.select():
                if key.fileobj is sys.stdin:
                    for command in self._running:
                        os.kill(command.pid, signal.SIGKILL)
                    return None
                if key.fileobj is self._listener:
                    request = self._begin()
                    if request is not None:
                        return request
                elif key.data in self._running:
                    self._end(key.data, is_over=key.fd == key.data.end)

    def _begin(self) -> Mapping[str, Any] | None:
        client, _ = self._listener.accept()
        text, streams, _, _ = socket.recv_fds(client, CHUNK_BYTES, STREAMS)
        while not text.endswith(b"\n") and (more := client.recv(CHUNK_BYTES)):
            text += more
        pid = os.fork()
        if pid:
            for stream in streams:
                os.close(stream)
            self._watch(Running(pid, os.pidfd_open(pid), client))
            return None
        self._watched.close()
        self._listener.close()
        for command in self._running:
            command.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        client.close()
        request: Mapping[str, Any] = json.loads(text)
        return request

    def _watch(self, command: Running) -> None:
        self._running.add(command)
        self._watched.register(command.end, selectors.EVENT_READ, command)
        self._watched.register(command.client, selectors.EVENT_READ, command)
        _send(command.client, command.pid)

    def _end(self, command: Running, *, is_over: bool) -> None:
        """Send the exit status of a command that ended; kill a command whose client is gone."""
        if not is_over:
            os.kill(command.pid, signal.SIGKILL)
        _, status = os.waitpid(command.pid, 0)
        _send(command.client, os.waitstatus_to_exitcode(status))
        self._watched.unregister(command.end)
        self._watched.unregister(command.client)
        self._running.remove(command)
        command.close()


def _send(client: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(b"%d\n" % number)


def _import_all() -> None:
    for module in pkgutil.walk_packages(relay.__path__, "relay."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # a fork that collects would copy every page it touches


def _become(request: Mapping[str, Any]) -> None:
    """Run the command as a fresh interpreter would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()  # noqa: TID251  # the command's own
    os.environ.update(request["environment"])  # noqa: TID251
    os.chdir(request["folder"])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # a descriptor, for good
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["relay", *request["words"]]
    runpy.run_module("relay", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_all()
    server = Server(sys.argv[1])
    print("ready", flush=True)  # noqa: T201  # the tests wait for it
    request = server.serve()
    if request is not None:
        _become(request)
