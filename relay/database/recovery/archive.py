"""Where a damaged database goes, what is written about it, and how the new one takes its place.

The new database is whole and synced before anything is moved, and its name says so: a start that
finds it finishes the move, so that a crash at any moment costs nothing.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import orjson

TAILS: Final = ("-wal", "-shm", "")
"""What belongs to a database; the file itself is moved last."""

_DAMAGED: Final = ".damaged-"
_RESCUED: Final = ".rescued-"
_RESCUING: Final = ".rescuing"
_SUSPECT: Final = ".mark_unclean"
_REPORT: Final = ".json"
_STAMP: Final = "%Y%m%dT%H%M%SZ"


class ArchivedDatabase(NamedTuple):
    """A damaged database that was set aside.

    Attributes:
        path: Where it is.
        why: What was wrong with it.
        saved: Rows that were taken over, by table.
        lost: What is known to be lost.
    """

    path: Path
    why: str
    saved: Mapping[str, int]
    lost: Mapping[str, int]


def make_stamp(database: Path, now_ms: int) -> str:
    """Return what the files of a rescue are named by; never twice the same."""
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime(_STAMP)
    number, unique = 1, stamp
    while next(database.parent.glob(f"{database.name}{_DAMAGED}{unique}*"), None):
        number += 1
        unique = f"{stamp}-{number}"
    return unique


def rescuing_path(database: Path) -> Path:
    """Return where the new database grows, with nothing of an earlier attempt there."""
    path = _beside(database, _RESCUING)
    for tail in ("", "-journal"):
        _beside(path, tail).unlink(missing_ok=True)
    return path


def put_in_place(database: Path, stamp: str, told: ArchivedDatabase) -> Path:
    """Set the damaged files aside and put the new database in their place.

    Returns:
        Where the damaged database is now.
    """
    rescued = _beside(database, f"{_RESCUED}{stamp}")
    report = _beside(database, f"{_DAMAGED}{stamp}{_REPORT}")
    _write(report, orjson.dumps({"why": told.why, "saved": told.saved, "lost": told.lost}))
    new = _beside(database, _RESCUING)
    sync(new)
    new.rename(rescued)
    sync(database.parent)
    return _finish(database, rescued)


def finish_interrupted(database: Path) -> None:
    """Go on where a crash interrupted the move."""
    for rescued in database.parent.glob(f"{database.name}{_RESCUED}*"):
        _finish(database, rescued)


def _finish(database: Path, rescued: Path) -> Path:
    stamp = rescued.name.removeprefix(f"{database.name}{_RESCUED}")
    aside = _beside(database, f"{_DAMAGED}{stamp}")
    for tail in TAILS:
        old = _beside(database, tail)
        if old.exists():
            if not tail:
                rescued.chmod(old.stat().st_mode)
            old.chmod(0o600)
            old.rename(_beside(aside, tail))
    rescued.rename(database)
    clear_unclean_mark(database)
    sync(database.parent)
    return aside


def find_archived(database: Path) -> Iterator[ArchivedDatabase]:
    """Yield what was set aside of a database, oldest first."""
    pattern = re.compile(rf"{re.escape(database.name + _DAMAGED)}\d{{8}}T\d{{6}}Z(-\d+)?")
    names = {found[0] for path in database.parent.iterdir() if (found := pattern.match(path.name))}
    for name in sorted(names):
        yield _read_report(database.with_name(name))


def _read_report(aside: Path) -> ArchivedDatabase:
    try:
        told = orjson.loads(_beside(aside, _REPORT).read_bytes())
        return ArchivedDatabase(aside, str(told["why"]), dict(told["saved"]), dict(told["lost"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ArchivedDatabase(aside, "what was wrong is not written down", {}, {})


def mark_unclean(database: Path) -> None:
    """Have the next start look at every row of a database."""
    _beside(database, _SUSPECT).touch(mode=0o600)


def is_marked_unclean(database: Path) -> bool:
    """Tell whether a former process ended in a way that damage may have caused."""
    return _beside(database, _SUSPECT).exists()


def clear_unclean_mark(database: Path) -> None:
    """Note that a database was looked at."""
    _beside(database, _SUSPECT).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path, tail: str) -> Path:
    return path.with_name(f"{path.name}{tail}")


def _write(path: Path, text: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(text)
    sync(path)
