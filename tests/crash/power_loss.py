"""What a power cut leaves of a folder: every unsynced write may be present, torn or missing.

Pure. The rules are the hardest a file system may follow. Bytes are safe once an `fdatasync` or
`fsync` of their file, begun after they were written, has ended; a file's name once a sync of its
folder has; the folder's own name once its parent's has. Of what is not safe any part may be on
the disk, sector by sector and in any order, a file may have its new size without its new bytes,
and a removed name may be back. (ext4 makes a new file's name safe with the file's first sync and
keeps names in order; every state it can leave is among these.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple, TypeAlias

SECTORS_BYTES: Final = (512, 4096)
"""The unit a disk writes atomically."""


class Write(NamedTuple):
    """Bytes written into a file at an offset."""

    at: int
    data: bytes


class Resize(NamedTuple):
    """A new size of a file."""

    size_bytes: int


class Naming(NamedTuple):
    """A name given to a file, removed from it, or both at once."""

    file: int
    given: str | None
    removed: str | None = None


Change: TypeAlias = Write | Resize
Keep: TypeAlias = Callable[[int, int], bool]
"""Given the number of changes and one's index, is that one on the disk?"""


@dataclass
class File:
    """A file: what of it is safe, and what is not yet.

    Attributes:
        safe: Its bytes after any later power cut, unless changed again.
        changes: Unsynced changes, oldest first.
    """

    safe: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)

    def settle(self, number: int) -> None:
        """Make the first `count` changes safe."""
        for change in self.changes[:number]:
            _apply(self.safe, change)
        del self.changes[:number]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a sync covers, from the moment it began."""

    files: Mapping[int, int]
    namings: int


@dataclass(frozen=True, slots=True)
class Luck:
    """What a power cut spares.

    Attributes:
        name: For failure messages.
        keep: Which unsynced changes reach the disk.
        is_torn: Whether each sector of a write has its own fate.
    """

    name: str
    keep: Keep
    is_torn: bool = False


def fates(rng: Random) -> list[Luck]:
    """Return kinds of power cuts, from gentle to harsh."""
    share, place = rng.choice((0.1, 0.5, 0.9)), rng.random()
    return [
        Luck("nothing is spared", lambda _place, _number: False),
        Luck("everything is spared", lambda _place, _number: True),
        Luck("the last is spared", lambda place, number: place == number - 1),
        Luck("the first is lost", lambda place, _number: place > 0),
        Luck("the beginning is spared", lambda at, number: at < place * number, is_torn=True),
        Luck("any are spared", lambda _place, _number: rng.random() < share),
        Luck("any sectors are spared", lambda _place, _number: rng.random() < share, is_torn=True),
    ]


class Disk:
    """A folder and its files, as system calls change them."""

    def __init__(self) -> None:
        self._files: list[File] = []
        self._names: dict[str, int] = {}
        self._safe_names: dict[str, int] = {}
        self._namings: list[Naming] = []
        self._has_folder = False

    @property
    def unsafe(self) -> int:
        """How many changes a power cut may lose."""
        return len(self._namings) + sum(len(file.changes) for file in self._files)

    def keep_folder(self) -> None:
        """Record that the parent folder was synced."""
        self._has_folder = True

    def open(self, name: str) -> None:
        """Create a file unless it exists."""
        if name not in self._names:
            self._files.append(File())
            self._name(Naming(len(self._files) - 1, name))

    def remove(self, name: str) -> None:
        """Remove a file's name."""
        self._name(Naming(self._names[name], None, name))

    def rename(self, name: str, given: str) -> None:
        """Rename a file atomically."""
        self._name(Naming(self._names[name], given, name))

    def adopt(self, name: str, content: bytes) -> None:
        """Add a file that was safe before the trace."""
        self._files.append(File(bytearray(content)))
        for names in (self._names, self._safe_names):
            names[name] = len(self._files) - 1

    def change(self, name: str, change: Change) -> None:
        """Change a file that has a name."""
        if name in self._names:
            self._files[self._names[name]].changes.append(change)

    def append(self, name: str, data: bytes) -> None:
        """Write at the end of a named file."""
        if name in self._names:
            self.change(name, Write(self._size_bytes(name), data))

    def grow(self, name: str, size_bytes: int) -> None:
        """Allocate space for a named file up to a size."""
        if name in self._names and size_bytes > self._size_bytes(name):
            self.change(name, Resize(size_bytes))

    def mark(self, name: str | None) -> Mark:
        """Return what a sync of a file, or of the folder, covers if it begins now."""
        if name is None:
            return Mark({}, len(self._namings))
        number = self._names.get(name)
        return Mark({} if number is None else {number: len(self._files[number].changes)}, 0)

    def settle(self, mark: Mark) -> None:
        """Make safe what a completed sync covers."""
        for number, changes in mark.files.items():
            self._files[number].settle(changes)
        for naming in self._namings[: mark.namings]:
            _rename(self._safe_names, naming)
        del self._namings[: mark.namings]

    def after_power_loss(self, luck: Luck, rng: Random) -> dict[str, bytes] | None:
        """Return the files a power cut leaves; None where even the folder is gone."""
        if not self._has_folder and not luck.keep(0, 2):
            return None
        names = dict(self._safe_names)
        for place, naming in enumerate(self._namings):
            if luck.keep(place, len(self._namings)):
                _rename(names, naming)
        return {name: _remains(self._files[number], luck, rng) for name, number in names.items()}

    def _size_bytes(self, name: str) -> int:
        file = self._files[self._names[name]]
        size_bytes = len(file.safe)
        for change in file.changes:
            size_bytes = _size_after(size_bytes, change)
        return size_bytes

    def _name(self, naming: Naming) -> None:
        _rename(self._names, naming)
        self._namings.append(naming)


def _rename(names: dict[str, int], naming: Naming) -> None:
    if naming.removed is not None and names.get(naming.removed) == naming.file:
        del names[naming.removed]
    if naming.given is not None:
        names[naming.given] = naming.file


def _remains(file: File, luck: Luck, rng: Random) -> bytes:
    content = bytearray(file.safe)
    parts = list(_parts(file.changes, rng.choice(SECTORS_BYTES)) if luck.is_torn else file.changes)
    for place, part in enumerate(parts):
        if luck.keep(place, len(parts)):
            _apply(content, part)
        elif luck.is_torn and isinstance(part, Write) and rng.random() < 1 / 8:
            _apply(content, Resize(max(len(content), part.at + len(part.data))))
    return bytes(content)


def _parts(changes: Sequence[Change], sector_bytes: int) -> Iterator[Change]:
    """Split writes at sector boundaries."""
    for change in changes:
        if isinstance(change, Resize):
            yield change
            continue
        place, end = change.at, change.at + len(change.data)
        while place < end:
            stop = min(end, (place // sector_bytes + 1) * sector_bytes)
            yield Write(place, change.data[place - change.at : stop - change.at])
            place = stop


def _apply(content: bytearray, change: Change) -> None:
    size_bytes = _size_after(len(content), change)
    if size_bytes > len(content):
        content.extend(bytes(size_bytes - len(content)))
    match change:
        case Write(at, data):
            content[at : at + len(data)] = data
        case Resize():
            del content[size_bytes:]


def _size_after(size_bytes: int, change: Change) -> int:
    if isinstance(change, Resize):
        return change.size_bytes
    return max(size_bytes, change.at + len(change.data))
