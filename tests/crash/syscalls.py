"""Reads a trace of system calls and reports answers that were given before a sync.

Pure. An event is durable once an `fdatasync` of the log that began after the event was written
has ended; a 200 must not begin before.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.crash.tracing import Begun, Call, follow

CALLS: Final = "read,recvfrom,write,writev,sendto,sendmsg,pwrite64,fdatasync,fsync"
LOG_NAME: Final = "outbox.db-wal"

_ID: Final = re.compile(
    r'\\"(?:insert_)?id\\": ?\\"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\\"'
)
_RECEIVING: Final = frozenset({"read", "recvfrom"})
_SENDING: Final = frozenset({"write", "writev", "sendto", "sendmsg"})
_OK_HEAD: Final = '"HTTP/1.1 200 OK'


@dataclass(slots=True)
class Verdict:
    """What a trace shows.

    Attributes:
        answers: Number of 200s to requests with events.
        syncs: Completed syncs of the log.
        early: Ids of events answered before they were durable.
    """

    answers: int = 0
    syncs: int = 0
    early: list[str] = field(default_factory=list)


class _Reader:
    """Follows a trace call by call."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self._asked: dict[str, list[str]] = {}
        self._written: set[str] = set()
        self._covered: dict[int, set[str]] = {}
        self._durable: set[str] = set()

    def begin(self, call: Call) -> None:
        """Process the start of a call."""
        if call.name == "fdatasync":
            self._covered[id(call)] = set(self._written)
        elif call.name in _SENDING and _OK_HEAD in call.text:
            self._answer(call.file)

    def _answer(self, file: str) -> None:
        for name in self._asked.pop(file, ()):
            self.verdict.answers += 1
            if name not in self._durable:
                self.verdict.early.append(name)

    def end(self, call: Call) -> None:
        """Process the end of a call."""
        is_log = LOG_NAME in call.file
        if call.name in _RECEIVING:
            ids = _ID.findall(call.text)
            if ids:
                self._asked.setdefault(call.file, []).append(ids[0])
        elif call.name == "pwrite64" and is_log:
            self._written.update(_ID.findall(call.text))
        elif call.name == "fdatasync":
            covered = self._covered.pop(id(call), set())
            if is_log and call.result == 0:
                self.verdict.syncs += 1
                self._durable |= covered


def judge_trace(lines: Iterable[str]) -> Verdict:
    """Return which answers in a trace came before their event was synced."""
    reader = _Reader()
    for step in follow(lines):
        if isinstance(step, Begun):
            reader.begin(step.call)
        else:
            reader.end(step.call)
    return reader.verdict
