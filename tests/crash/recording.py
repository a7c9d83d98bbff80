"""Turns traced system calls into changes of the disk and the answers given in between.

Pure.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from tests.crash.power_loss import Disk, Mark, Resize, Write
from tests.crash.tracing import Begun, Call, Ended, follow

CALLS: Final = (
    "read,recvfrom,write,writev,sendto,sendmsg,"
    "openat,pwrite64,ftruncate,truncate,fallocate,fdatasync,fsync,unlink,unlinkat,rename"
)

_PATH: Final = re.compile(r"\d+<([^>]*)>")
_NAMED: Final = re.compile(r'"([^"]*)"')
_BYTES: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?', re.DOTALL)
_NUMBERS: Final = re.compile(r"(\d+)")
_ID: Final = re.compile(
    rb'"(?:id|user_id)": ?"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"'
)
_REQUEST: Final = re.compile(rb"POST /v1/apps/[^/ ]+/(events|cohorts) HTTP")
_RECEIVING: Final = frozenset({"read", "recvfrom"})
_SENDING: Final = frozenset({"write", "writev", "sendto", "sendmsg"})
_SYNCS: Final = frozenset({"fdatasync", "fsync"})
_OK_HEAD: Final = '"HTTP/1.1 200 OK'


@dataclass(frozen=True, slots=True)
class Answer:
    """The first byte of a 200.

    Attributes:
        webhook: Which webhook answered.
        ids: Ids of the events, or the users, in the request.
    """

    webhook: str
    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Synced:
    """A sync that has ended and made something safe."""

    name: str | None


Moment: TypeAlias = Answer | Synced | None
"""What a power cut may follow; None is a change of the disk."""


class Recording:
    """Replays traces onto a simulated disk.

    Attributes:
        disk: Its current state.
    """

    def __init__(self, folder: Path, blind_to: str | None = None) -> None:
        """Replay what happened in `folder`, ignoring the syncs of one file."""
        self.disk = Disk()
        self._folder = str(folder)
        self._blind_to = blind_to
        self._marks: dict[int, tuple[str | None, Mark]] = {}
        self._asked: dict[str, bytearray] = {}

    def play(self, lines: Iterable[str]) -> Iterator[Moment]:
        """Apply the calls of one process in order, yielding answers and syncs."""
        self._asked.clear()
        parent = str(Path(self._folder).parent)
        wanted = (self._folder, "<socket:", f"<{parent}>)", " resumed>")
        for step in follow(line for line in lines if any(word in line for word in wanted)):
            match step:
                case Begun(call):
                    yield from self._begin(call)
                case Ended(call):
                    yield from self._end(call)

    def _begin(self, call: Call) -> Iterator[Moment]:
        if call.name == "pwrite64" and (name := self._inside(call)):
            data, rest = _data(call.text)
            self.disk.change(name, Write(int(_NUMBERS.findall(rest)[1]), data))
            yield None
        elif call.name in _SYNCS and call.file:
            name = self._inside(call)
            self._marks[id(call)] = name, self.disk.mark(name)
        elif call.name == "write" and (name := self._inside(call)):
            self.disk.append(name, _data(call.text)[0])
            yield None
        elif call.name in _SENDING and _OK_HEAD in call.text:
            yield from self._answer(call.file)

    def _end(self, call: Call) -> Iterator[Moment]:
        if call.name in _SYNCS:
            yield from self._end_sync(call)
        elif call.result is None or call.result < 0:
            return
        elif call.name in _RECEIVING and "<socket:" in call.file:
            self._asked.setdefault(call.file, bytearray()).extend(_data(call.text)[0])
        elif change := getattr(self, f"_end_{call.name}", None):
            change(call)
            yield None

    def _end_sync(self, call: Call) -> Iterator[Moment]:
        name, mark = self._marks.pop(id(call), (None, None))
        if mark is None or call.result != 0 or (name and name == self._blind_to):
            return
        if self._path(call) == str(Path(self._folder).parent):
            self.disk.keep_folder()
        elif name is not None or self._path(call) == self._folder:
            self.disk.settle(mark)
        yield Synced(name)

    def _end_openat(self, call: Call) -> None:
        if "O_CREAT" in call.text and (name := self._named(call)):
            self.disk.open(name)
        if "O_TRUNC" in call.text and (name := self._named(call)):
            self.disk.change(name, Resize(0))

    def _end_unlink(self, call: Call) -> None:
        if name := self._named(call):
            self.disk.remove(name)

    _end_unlinkat = _end_unlink

    def _end_rename(self, call: Call) -> None:
        names = [self._name_of(path) for path in _NAMED.findall(call.text)]
        if names[0] and names[1]:
            self.disk.rename(names[0], names[1])

    def _end_ftruncate(self, call: Call) -> None:
        if name := self._inside(call):
            self.disk.change(name, Resize(_numbers(call)[-1]))

    def _end_truncate(self, call: Call) -> None:
        if name := self._named(call):
            self.disk.change(name, Resize(_numbers(call)[-1]))

    def _end_fallocate(self, call: Call) -> None:
        if name := self._inside(call):
            self.disk.grow(name, sum(_numbers(call)[-2:]))

    def _answer(self, socket: str) -> Iterator[Answer]:
        asked = bytes(self._asked.pop(socket, b""))
        webhook = _REQUEST.match(asked)
        if webhook:
            ids = frozenset(name.decode() for name in _ID.findall(asked))
            yield Answer(webhook[1].decode(), ids)

    def _path(self, call: Call) -> str:
        path = _PATH.match(call.file)
        return path[1] if path else ""

    def _inside(self, call: Call) -> str | None:
        """Return the name of an open file if it is in the folder."""
        return self._name_of(self._path(call))

    def _named(self, call: Call) -> str | None:
        """Return the name of the folder's file that a call names."""
        path = _NAMED.search(call.text)
        return self._name_of(path[1]) if path else None

    def _name_of(self, path: str) -> str | None:
        folder, _, name = path.rpartition("/")
        return name if folder == self._folder else None


def _data(text: str) -> tuple[bytes, str]:
    """Return the bytes passed to a call, and the text after them."""
    written = _BYTES.search(text)
    assert written is not None, text[:200]
    assert written[2] is None, "the trace was cut: strace needs a larger -s"
    data = written[1].encode("latin-1").decode("unicode_escape").encode("latin-1")
    return data, text[written.end() :]


def _numbers(call: Call) -> list[int]:
    """Return the numbers among a call's arguments."""
    return [int(number) for number in _NUMBERS.findall(call.text.rpartition(")")[0])]
