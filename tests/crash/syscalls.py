"""Reads a trace of system calls and says which answers were given before a sync.

Pure. `strace` writes a line per call in the order in which calls begin and end: a call that
another thread overtakes is written in two parts. An event is durable once an `fdatasync` of
the log that began after the event was written has ended; a 200 must not begin before.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

CALLS: Final = "read,recvfrom,write,writev,sendto,sendmsg,pwrite64,fdatasync,fsync"
LOG_NAME: Final = "outbox.db-wal"

_CALL: Final = re.compile(r"(?:\[pid +)?(?P<pid>\d+)?\]? ?(?P<name>\w+)\((?P<file>\d+<[^>]*>)")
_RESUMED: Final = re.compile(r"(?:\[pid +)?(?P<pid>\d+)?\]? ?<\.\.\. (?P<name>\w+) resumed>")
_ID: Final = re.compile(
    r'\\"(?:insert_)?id\\": ?\\"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\\"'
)
_RECEIVING: Final = frozenset({"read", "recvfrom"})
_SENDING: Final = frozenset({"write", "writev", "sendto", "sendmsg"})
_UNFINISHED: Final = "<unfinished ...>"
_OK_HEAD: Final = '"HTTP/1.1 200 OK'
_DONE: Final = " = 0"


@dataclass(slots=True)
class Verdict:
    """What a trace shows.

    Attributes:
        answers: 200s to requests that brought an event.
        syncs: Completed syncs of the log.
        early: Ids of events answered before they were durable.
    """

    answers: int = 0
    syncs: int = 0
    early: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Call:
    pid: str
    name: str
    file: str
    text: str
    covers: frozenset[str] = frozenset()


class _Reader:
    """Follows a trace line by line."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self._open: dict[str, _Call] = {}
        self._asked: dict[str, list[str]] = {}
        self._written: set[str] = set()
        self._durable: set[str] = set()

    def read(self, line: str) -> None:
        """Take one line in."""
        resumed = _RESUMED.match(line)
        if resumed:
            call = self._open.pop(resumed["pid"] or "", None)
            if call is not None:
                self._end(call, line)
            return
        begun = _CALL.match(line)
        if begun is None:
            return
        call = _Call(begun["pid"] or "", begun["name"], begun["file"], line)
        self._begin(call)
        if line.endswith(_UNFINISHED):
            self._open[call.pid] = call
        else:
            self._end(call, line)

    def _begin(self, call: _Call) -> None:
        if call.name == "fdatasync":
            call.covers = frozenset(self._written)
        elif call.name in _SENDING and _OK_HEAD in call.text:
            self._answer(call.file)

    def _answer(self, file: str) -> None:
        for name in self._asked.pop(file, ()):
            self.verdict.answers += 1
            if name not in self._durable:
                self.verdict.early.append(name)

    def _end(self, call: _Call, line: str) -> None:
        is_log = LOG_NAME in call.file
        if call.name in _RECEIVING:
            ids = _ID.findall(call.text) or _ID.findall(line)
            if ids:
                self._asked.setdefault(call.file, []).append(ids[0])
        elif call.name == "pwrite64" and is_log:
            self._written.update(_ID.findall(call.text))
        elif call.name == "fdatasync" and is_log and line.rstrip().endswith(_DONE):
            self.verdict.syncs += 1
            self._durable |= call.covers


def judge_trace(lines: Iterable[str]) -> Verdict:
    """Return which answers a trace shows to have come too early."""
    reader = _Reader()
    for line in lines:
        reader.read(line)
    return reader.verdict
