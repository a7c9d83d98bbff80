"""Asks the server for a command, forwards signals to it and ends with its exit status."""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(place: str, words: list[str]) -> int:
    """Run a command and return its exit status. The server kills it if this process dies."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    server = socket.socket(socket.AF_UNIX)
    server.connect(place)
    environment = dict(os.environ)  # noqa: TID251  # the command's own
    folder = os.getcwd()  # noqa: PTH109  # pathlib takes as long as all else here
    asked = {"words": words, "environment": environment, "folder": folder}
    socket.send_fds(server, [json.dumps(asked).encode() + b"\n"], [0, 1, 2])
    answers = server.makefile()
    pid = int(answers.readline())
    for number in FORWARDED:
        signal.signal(number, lambda got, _: os.kill(pid, got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
