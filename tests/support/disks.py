"""Small disks that tests fill or break. Mounting needs root."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

DISK_MB = 96


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a small tmpfs while the block runs."""
    place.mkdir()
    with _mounted(["-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(place)], place):
        yield place


@contextmanager
def small_ext4(place: Path) -> Iterator[Path]:
    """Mount a small ext4 while the block runs; its image is a file beside it."""
    image = place.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(DISK_MB << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    place.mkdir()
    with mounted_again(place):
        yield place


@contextmanager
def mounted_again(place: Path) -> Iterator[None]:
    """Mount a disk of `small_ext4` again, as after a reboot."""
    with _mounted(["-o", "loop", str(place.with_suffix(".ext4")), str(place)], place):
        yield


def break_off(disk: Path) -> None:
    """Make ext4 hit an error after which it rejects every write."""
    subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)


Disk: TypeAlias = Callable[[Path], AbstractContextManager[Path]]
DISKS: Final[tuple[Disk, ...]] = (small_disk, small_ext4)


@contextmanager
def _mounted(arguments: Sequence[str], place: Path) -> Iterator[None]:
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def crash_copy(folder: Path, target: Path) -> Path:
    """Copy a folder's open databases as a power cut would leave them; return the copy."""
    target.mkdir()
    for file in (*folder.glob("*.db"), *folder.glob("*.db-wal")):
        shutil.copy(file, target)
    return target


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte; return the file that does."""
    filler = disk / "other people's data"
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    assert os.statvfs(disk).f_bavail == 0
    return filler
