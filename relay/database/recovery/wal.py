"""The write-ahead log read without SQLite, which stops in silence at the first damaged frame.

What stands behind that frame was committed, synced and acknowledged. Here it is seen, and read.

Source: sqlite.org/fileformat2.html, section 4 (the write-ahead log).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct, error
from typing import BinaryIO, Final, NamedTuple

from relay.database.recovery.records import PAGE_BYTES, page_kind

_MAGIC: Final = 0x377F0682
_HEADER: Final = Struct(">8I")
_FRAME: Final = Struct(">6I")
_FRAME_BYTES: Final = _FRAME.size + PAGE_BYTES
_SUMMED_BYTES: Final = 8
_MASK: Final = 0xFFFFFFFF

_COMMITS_OF_A_CUT: Final = 1
"""A power cut can spoil one commit, the last, which nobody was told of: the next one is written
only after its sync."""

_Sum = tuple[int, int]


class _Frame(NamedTuple):
    """A frame's head, and where in the file its page is."""

    page: int
    size_after: int
    salt: _Sum
    sum: _Sum
    place: int


@dataclass(slots=True)
class Log:
    """What a log holds.

    Attributes:
        places: Where in the file the newest version of each page is.
        pages: Pages of the database after the last commit, 0 if unknown.
        unread: Pages whose newest version is lost.
        doubtful: Pages whose newest version is damaged, and taken over nevertheless.
        is_damaged: Whether commits were lost that no power cut can have spoilt.
    """

    places: dict[int, int] = field(default_factory=dict)
    pages: int = 0
    unread: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    is_damaged: bool = False


def read_log(path: Path, *, remains: bool = False) -> Log:
    """Read a log.

    Args:
        path: The file; none at all is an empty log.
        remains: Whether to take over what stands behind damaged frames, too.
    """
    log = Log()
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return log
    with file:
        _read(file, log, remains=remains)
    return log


def _read(file: BinaryIO, log: Log, *, remains: bool) -> None:
    head = file.read(_HEADER.size)
    try:
        magic, _, _, _, *salt, sum_1, sum_2 = _HEADER.unpack(head)
    except error:
        return
    order = ">" if magic & 1 else "<"
    words = Struct(f"{order}{(_SUMMED_BYTES + PAGE_BYTES) // 4}I")
    started = _add(Struct(f"{order}6I").unpack(head[:24]), (0, 0))
    is_whole = magic & ~1 == _MAGIC and started == (sum_1, sum_2)
    frames = list(_frames(file))
    salts = (salt[0], salt[1]) if is_whole or not frames else frames[0].salt
    ours = [frame for frame in frames if frame.salt == salts]
    kept = _whole_prefix(file, frames, salts, (sum_1, sum_2), words) if is_whole else 0
    for frame in frames[:kept]:
        log.places[frame.page] = frame.place
        log.pages = frame.size_after or log.pages
    tail = ours[kept:]
    commits = sum(frame.size_after > 0 for frame in tail)
    log.is_damaged = commits > _COMMITS_OF_A_CUT
    if remains:
        _take_remains(file, frames, tail, log, words)


def _frames(file: BinaryIO) -> Iterator[_Frame]:
    """Yield the heads of all whole frames."""
    place = _HEADER.size
    while True:
        file.seek(place)
        head = file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return
        page, size_after, salt_1, salt_2, sum_1, sum_2 = _FRAME.unpack(head)
        file.seek(place + _FRAME_BYTES - 1)
        if not file.read(1):
            return
        at = place + _FRAME.size
        yield _Frame(page, size_after, (salt_1, salt_2), (sum_1, sum_2), at)
        place += _FRAME_BYTES


def _whole_prefix(
    file: BinaryIO, frames: list[_Frame], salts: _Sum, total: _Sum, words: Struct
) -> int:
    """Return how many frames SQLite would read: up to the last whole commit."""
    kept = 0
    for number, frame in enumerate(frames, start=1):
        if frame.salt != salts or not frame.page:
            break
        total = _add(_summed(file, frame, words), total)
        if total != frame.sum:
            break
        if frame.size_after:
            kept = number
    return kept


def _take_remains(  # one step of reading
    file: BinaryIO,
    frames: list[_Frame],
    tail: list[_Frame],
    log: Log,
    words: Struct,
) -> None:
    """Take over every later frame up to the last commit, if it is whole by itself or has rows."""
    ends = [frame.place for frame in tail if frame.size_after]
    before = {frame.place: frames[n - 1].sum for n, frame in enumerate(frames) if n}
    for frame in tail:
        if not ends or frame.place > ends[-1]:
            break
        summed = _add(_summed(file, frame, words), before.get(frame.place, frame.sum))
        if summed == frame.sum:
            log.places[frame.page] = frame.place
            log.unread.discard(frame.page)
            log.doubtful.discard(frame.page)
            log.pages = frame.size_after or log.pages
            continue
        file.seek(frame.place)
        if page_kind(file.read(PAGE_BYTES)):  # most of its rows may be sound
            log.places[frame.page] = frame.place
            log.doubtful.add(frame.page)
        else:
            log.unread.add(frame.page)


def _summed(file: BinaryIO, frame: _Frame, words: Struct) -> tuple[int, ...]:
    """Return what a frame's checksum is over: the begin of its head, and its page."""
    file.seek(frame.place - _FRAME.size)
    data = file.read(_FRAME_BYTES)
    return words.unpack(data[:_SUMMED_BYTES] + data[_FRAME.size :])


def _add(words: tuple[int, ...], total: _Sum) -> _Sum:
    """Continue SQLite's checksum."""
    one, two = total
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two
