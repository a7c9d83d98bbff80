"""The write-ahead log, read without SQLite: frames behind a damaged one were committed as well.

SQLite replays a log up to the first damaged frame and silently ignores the rest, although it was
synced and acknowledged. Each frame's checksum continues the one before it, and that one is stored
in its header, so every frame can be verified by itself.

Source: sqlite.org/fileformat2.html, section 4 (the write-ahead log), 2026.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct, error
from typing import BinaryIO, Final, NamedTuple

from relay.database.recovery.format import PAGE_BYTES, page_kind

_MAGIC: Final = 0x377F0682
_HEADER: Final = Struct(">8I")
_FRAME: Final = Struct(">6I")
_FRAME_BYTES: Final = _FRAME.size + PAGE_BYTES
_SUMMED_BYTES: Final = 8
"""Of a frame's header; its page follows."""

_MASK: Final = 0xFFFFFFFF

_COMMITS_OF_A_POWER_CUT: Final = 1
"""A power cut can spoil only the last commit, which was not yet acknowledged: the next one is
written after its sync."""

_Checksum = tuple[int, int]


class _Frame(NamedTuple):
    page: int
    size_after: int  # of the database in pages, in a commit's last frame; else 0
    salt: _Checksum
    checksum: _Checksum
    place: int  # of the page's content in the file


@dataclass(slots=True)
class Wal:
    """What a log holds.

    Attributes:
        places: Where in the file the newest version of each page is.
        pages: Pages of the database after the last commit, 0 if unknown.
        unread: Pages whose newest version is lost.
        doubtful: Pages whose newest version is damaged, but is used because most of its rows may
            be intact.
        is_damaged: Whether commits are unreadable that no power cut can have spoilt.
    """

    places: dict[int, int] = field(default_factory=dict)
    pages: int = 0
    unread: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)
    is_damaged: bool = False


def wal_path(database: Path) -> Path:
    """Return the path of a database's write-ahead log."""
    return database.with_name(f"{database.name}-wal")


def read_wal(path: Path, *, past_damage: bool = False) -> Wal:
    """Read a log; a missing one is empty.

    Args:
        path: The file.
        past_damage: Whether to use the frames behind damaged ones, too.
    """
    wal = Wal()
    try:
        with path.open("rb") as file:
            _read(file, wal, past_damage=past_damage)
    except FileNotFoundError:
        pass
    return wal


def _read(file: BinaryIO, wal: Wal, *, past_damage: bool) -> None:
    head = file.read(_HEADER.size)
    try:
        magic, _, _, _, *salt, sum_1, sum_2 = _HEADER.unpack(head)
    except error:
        return
    # A wrong byte order, read from a damaged header, only makes every frame look damaged.
    order = ">" if magic & 1 else "<"
    words = Struct(f"{order}{(_SUMMED_BYTES + PAGE_BYTES) // 4}I")
    start = (sum_1, sum_2)
    is_header_sound = magic & ~1 == _MAGIC and start == _continue(
        Struct(f"{order}6I").unpack(head[:24]), (0, 0)
    )
    frames = list(_frames(file))
    # A log is rewritten from its start, so the first frame is of the newest generation.
    salts = (salt[0], salt[1]) if is_header_sound or not frames else frames[0].salt
    before = [start, *(frame.checksum for frame in frames)]
    sound = [
        frame.salt == salts and frame.page > 0 and _is_sound(file, frame, before[n], words)
        for n, frame in enumerate(frames)
    ]
    prefix = [*sound, False].index(False) if is_header_sound else 0
    # Up to the last commit before any damage: as far as SQLite would replay it.
    kept = max((n + 1 for n in range(prefix) if frames[n].size_after), default=0)
    tail = [n for n in range(kept, len(frames)) if frames[n].salt == salts]
    commits = [n for n in tail if frames[n].size_after]
    wal.is_damaged = len(commits) > _COMMITS_OF_A_POWER_CUT
    for frame in frames[:kept]:
        _use(wal, frame)
    if past_damage and commits:
        for n in tail[: tail.index(commits[-1]) + 1]:  # what follows was never committed
            _use(wal, frames[n]) if sound[n] else _use_damaged(wal, frames[n], file)


def _frames(file: BinaryIO) -> Iterator[_Frame]:
    """Yield the headers of all complete frames."""
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


def _use(wal: Wal, frame: _Frame) -> None:
    wal.places[frame.page] = frame.place
    wal.pages = frame.size_after or wal.pages
    wal.unread.discard(frame.page)
    wal.doubtful.discard(frame.page)


def _use_damaged(wal: Wal, frame: _Frame, file: BinaryIO) -> None:
    """Use a damaged page if it has rows: most of them may be intact."""
    file.seek(frame.place)
    if page_kind(file.read(PAGE_BYTES)):
        wal.places[frame.page] = frame.place
        wal.doubtful.add(frame.page)
    else:  # the older version of the page stays in use
        wal.unread.add(frame.page)


def _is_sound(file: BinaryIO, frame: _Frame, before: _Checksum, words: Struct) -> bool:
    """Tell whether a frame's checksum, continued from the one before, is what it says."""
    file.seek(frame.place - _FRAME.size)
    data = file.read(_FRAME_BYTES)
    summed = words.unpack(data[:_SUMMED_BYTES] + data[_FRAME.size :])
    return _continue(summed, before) == frame.checksum


def _continue(words: tuple[int, ...], checksum: _Checksum) -> _Checksum:
    """Continue SQLite's checksum."""
    one, two = checksum
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two
