"""The rules of a power cut: synced changes stay, unsynced ones may be lost in any way."""

from collections.abc import Sequence
from random import Random

import pytest

from tests.crash.power_loss import Disk, Luck, Resize, Write, fates

NOTHING = Luck("nothing", lambda _place, _number: False)
EVERYTHING = Luck("everything", lambda _place, _number: True)


def safe_disk(*names: str) -> Disk:
    """Return a folder of empty files whose names are synced, as is its own."""
    disk = Disk()
    disk.keep_folder()
    for name in names:
        disk.open(name)
    disk.settle(disk.mark(None))
    return disk


def left(disk: Disk, luck: Luck = NOTHING) -> dict[str, bytes] | None:
    """Return what a power cut leaves."""
    return disk.after_power_loss(luck, Random(1))


def test_what_is_synced_stays() -> None:
    """Both bytes and size."""
    disk = safe_disk("a")
    disk.change("a", Write(2, b"xyz"))
    disk.settle(disk.mark("a"))
    assert left(disk) == {"a": b"\0\0xyz"}


def test_a_sync_covers_what_was_written_before_it_began() -> None:
    """Writes during the sync are not covered."""
    disk = safe_disk("a")
    disk.change("a", Write(0, b"one"))
    mark = disk.mark("a")
    disk.change("a", Write(0, b"two"))
    disk.settle(mark)
    assert left(disk) == {"a": b"one"}
    assert left(disk, EVERYTHING) == {"a": b"two"}


def test_a_sync_of_one_file_is_none_of_another() -> None:
    """Nor is it a sync of the folder."""
    disk = safe_disk("a")
    disk.open("b")
    disk.change("a", Write(0, b"one"))
    disk.change("b", Write(0, b"two"))
    disk.settle(disk.mark("b"))
    assert left(disk) == {"a": b""}
    disk.settle(disk.mark(None))
    assert left(disk) == {"a": b"", "b": b"two"}


def test_a_removed_file_may_be_back_until_its_folder_is_synced() -> None:
    """With its content, even if a new file has its name."""
    disk = safe_disk("a")
    disk.change("a", Write(0, b"old"))
    disk.settle(disk.mark("a"))
    disk.remove("a")
    assert left(disk) == {"a": b"old"}
    disk.open("a")
    disk.change("a", Write(0, b"new"))
    disk.settle(disk.mark("a"))
    assert left(disk) == {"a": b"old"}
    disk.settle(disk.mark(None))
    assert left(disk) == {"a": b"new"}


def test_a_folder_whose_parent_was_not_synced_may_be_gone() -> None:
    """Including everything synced in it."""
    disk = Disk()
    disk.open("a")
    disk.settle(disk.mark(None))
    assert left(disk) is None
    disk.keep_folder()
    assert left(disk) == {"a": b""}


def test_a_size_is_lost_like_bytes() -> None:
    """Both a truncation and an extension."""
    disk = safe_disk("a")
    disk.change("a", Write(0, b"long text"))
    disk.settle(disk.mark("a"))
    disk.change("a", Resize(4))
    assert left(disk) == {"a": b"long text"}
    assert left(disk, EVERYTHING) == {"a": b"long"}
    disk.grow("a", 6)
    assert left(disk, EVERYTHING) == {"a": b"long\0\0"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("the last is spared", b"\0\0bb"),
        ("the first is lost", b"\0\0bb"),
        ("everything is spared", b"aabb"),
        ("nothing is spared", b""),
    ],
)
def test_any_part_may_be_spared(name: str, expected: bytes) -> None:
    """Later bytes may survive without earlier ones."""
    disk = safe_disk("a")
    disk.change("a", Write(0, b"aa"))
    disk.change("a", Write(2, b"bb"))
    (luck,) = (luck for luck in fates(Random(1)) if luck.name == name)
    assert left(disk, luck) == {"a": expected}


@pytest.mark.parametrize("sectors", [(0,), (1,), (0, 2), (1, 2)])
def test_a_write_is_torn_where_sectors_begin(sectors: Sequence[int]) -> None:
    """Each sector is written or not; a size may survive without its bytes."""
    disk = safe_disk("a")
    disk.change("a", Write(100, b"x" * 1200))
    luck = Luck("some sectors", lambda place, _number: place in sectors, is_torn=True)
    for seed in range(20):
        files = disk.after_power_loss(luck, Random(seed))
        assert files is not None
        parts = files["a"][:512], files["a"][512:1024], files["a"][1024:]
        whole = b"\0" * 100 + b"x" * 412, b"x" * 512, b"x" * 276
        if len(files["a"]) == 1300 and b"x" in files["a"][:512] + files["a"][1024:]:
            for number, (part, all_of_it) in enumerate(zip(parts, whole, strict=True)):
                assert part in (all_of_it, bytes(len(part)))
                assert (part == all_of_it) == (number in sectors) or files["a"].count(b"x") == 1200
