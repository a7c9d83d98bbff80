"""The ballast: allocated where space is plentiful, released part by part."""

import os
from pathlib import Path

from relay.database.ballast import BALLAST_NAME, PARTS, BallastFile
from tests.support.limits import file_size_limit


def held_bytes(folder: Path) -> int:
    """Return the size of the ballast on disk."""
    file = folder / BALLAST_NAME
    return file.stat().st_blocks * 512 if file.exists() else 0


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def test_its_name_on_the_disk_stays() -> None:
    """Operators know it from the README, and a new version must find the old one's file."""
    assert BALLAST_NAME == "relay.reserve"


def test_it_is_allocated_where_space_is_plentiful(tmp_path: Path) -> None:
    """The blocks are really allocated, for the owner alone."""
    ballast = BallastFile(tmp_path, min_free_bytes=0)
    ballast.refresh()
    assert not ballast.is_short
    assert held_bytes(tmp_path) > 0
    assert (tmp_path / BALLAST_NAME).stat().st_mode & 0o777 == 0o600


def test_it_is_not_allocated_where_space_is_short(tmp_path: Path) -> None:
    """Below the configured free space it would only make things worse."""
    ballast = BallastFile(tmp_path, min_free_bytes=free_bytes(tmp_path) * 2)
    ballast.refresh()
    assert ballast.is_short
    assert held_bytes(tmp_path) == 0


def test_it_is_released_part_by_part(tmp_path: Path) -> None:
    """Each call frees one part for the database, until nothing is left; more calls are harmless."""
    BallastFile(tmp_path, min_free_bytes=0).refresh()
    short = BallastFile(tmp_path, min_free_bytes=free_bytes(tmp_path) * 2)
    short.refresh()
    sizes = [held_bytes(tmp_path)]
    for _ in range(PARTS + 1):
        short.make_room()
        sizes.append(held_bytes(tmp_path))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < sizes[0]
    assert sizes[-1] == sizes[-2] == 0


def test_an_opening_with_space_releases_nothing(tmp_path: Path) -> None:
    """Only a disk without space for the database's own needs loses a part."""
    ballast = BallastFile(tmp_path, min_free_bytes=0)
    ballast.prepare_opening()
    before = held_bytes(tmp_path)
    BallastFile(tmp_path, min_free_bytes=0).prepare_opening()
    assert held_bytes(tmp_path) == before > 0


def test_a_full_database_is_trusted_over_disk_figures(tmp_path: Path) -> None:
    """Disk figures ignore quotas: closed until a write succeeds."""
    ballast = BallastFile(tmp_path, min_free_bytes=0)
    ballast.refresh()
    whole = held_bytes(tmp_path)
    ballast.make_room()
    states = [(ballast.is_short, held_bytes(tmp_path))]
    with file_size_limit(whole // PARTS):
        ballast.refresh()
    states.append((ballast.is_short, held_bytes(tmp_path)))
    ballast.refresh()
    states.append((ballast.is_short, held_bytes(tmp_path)))
    less = whole - whole // PARTS
    assert states == [(True, less), (True, less), (False, whole)]


def test_a_part_that_cannot_be_allocated_leaves_the_others(tmp_path: Path) -> None:
    """The allocated parts stay allocated."""
    ballast = BallastFile(tmp_path, min_free_bytes=0)
    ballast.refresh()
    whole = held_bytes(tmp_path)
    os.truncate(tmp_path / BALLAST_NAME, whole // PARTS)
    with file_size_limit(whole // PARTS):
        ballast.refresh()
    assert held_bytes(tmp_path) == whole // PARTS
