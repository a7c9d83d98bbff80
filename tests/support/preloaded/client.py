"""Has a command forked, passes signals on to it, and ends as it ended."""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(place: str, words: list[str]) -> int:
    """Return the exit status; the death of this process kills the command."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    server = socket.socket(socket.AF_UNIX)
    server.connect(place)
    environment = dict(os.environ)  # noqa: TID251  # the command's own
    folder = os.getcwd()  # noqa: PTH109  # pathlib takes as long as all else here
    asked = {"words": words, "environment": environment, "folder": folder}
    socket.send_fds(server, [json.dumps(asked).encode() + b"\n"], [0, 1, 2])
    answers = server.makefile()
    pid = int(answers.readline())
    for number in PASSED_ON:
        signal.signal(number, lambda got, _: os.kill(pid, got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
