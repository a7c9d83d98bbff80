"""Archives a damaged database, with a report, and puts the new one in its place.

The new database is complete and synced before anything is moved, and its name then says so: a
start that finds it finishes the move, so a crash at any moment loses nothing.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from relay.database.disk import remove_database

_PARTS: Final = ("-wal", "-shm", "")
"""What belongs to a database. The file itself comes last: while it is there, nothing else of it
may be taken for the new database's."""

_DAMAGED: Final = ".damaged-"
_RESCUED: Final = ".rescued-"
_RESCUING: Final = ".rescuing"
_SCRATCH: Final = ".rescuing-pages"
_SUSPECT: Final = ".suspect"
_REPORT: Final = ".json"
_STAMP: Final = "%Y%m%dT%H%M%SZ"


class ArchivedDatabase(NamedTuple):
    """A damaged database that was moved out of the way.

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
    """Return a name for the files of a rescue, never twice the same."""
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime(_STAMP)
    number, unique = 1, stamp
    while next(database.parent.glob(f"{database.name}{_DAMAGED}{unique}*"), None):
        number += 1
        unique = f"{stamp}-{number}"
    return unique


def unfinished_path(database: Path) -> Path:
    """Return where the new database grows; nothing depends on it until it is complete."""
    return _beside(database, _RESCUING)


def scratch_path(database: Path) -> Path:
    """Return a file to work in during a rescue."""
    return _beside(database, _SCRATCH)


def remove_unfinished(database: Path) -> None:
    """Remove what a rescue left that did not come to its end."""
    remove_database(unfinished_path(database))
    scratch_path(database).unlink(missing_ok=True)


def put_in_place(database: Path, stamp: str, archived: ArchivedDatabase) -> Path:
    """Move the damaged files away and the new database into their place.

    Returns:
        Where the damaged database is now.
    """
    rescued = _beside(database, f"{_RESCUED}{stamp}")
    report = _beside(database, f"{_DAMAGED}{stamp}{_REPORT}")
    report.touch(mode=0o600)
    report.write_bytes(
        orjson.dumps({"why": archived.why, "saved": archived.saved, "lost": archived.lost})
    )
    _sync(report)
    new = unfinished_path(database)
    _sync(new)
    new.rename(rescued)  # from here on the rescue is finished, whatever happens
    _sync(database.parent)
    return _finish(database, rescued)


def finish_interrupted(database: Path) -> None:
    """Go on where a crash interrupted a move, and remove what it left of a rescue."""
    for rescued in database.parent.glob(f"{database.name}{_RESCUED}*"):
        _finish(database, rescued)
    remove_unfinished(database)


def _finish(database: Path, rescued: Path) -> Path:
    stamp = rescued.name.removeprefix(f"{database.name}{_RESCUED}")
    archive = _beside(database, f"{_DAMAGED}{stamp}")
    for part in _PARTS:
        old = _beside(database, part)
        if old.exists():
            if not part:
                rescued.chmod(old.stat().st_mode)  # who could read the old one can read the new
            old.chmod(0o600)
            old.rename(_beside(archive, part))
    rescued.rename(database)
    clear_unclean_mark(database)
    _sync(database.parent)
    return archive


def find_archived(database: Path) -> Iterator[ArchivedDatabase]:
    """Yield what was archived of a database, oldest first."""
    pattern = re.compile(rf"{re.escape(database.name + _DAMAGED)}\d{{8}}T\d{{6}}Z(-\d+)?")
    names = {found[0] for path in database.parent.iterdir() if (found := pattern.match(path.name))}
    for name in sorted(names):
        yield _read_report(database.with_name(name))


def _read_report(archive: Path) -> ArchivedDatabase:
    try:
        report = orjson.loads(_beside(archive, _REPORT).read_bytes())
        return ArchivedDatabase(
            archive, str(report["why"]), dict(report["saved"]), dict(report["lost"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ArchivedDatabase(archive, "what was wrong is not written down", {}, {})


def mark_unclean(database: Path) -> None:
    """Have the next start look at every row of a database."""
    _beside(database, _SUSPECT).touch(mode=0o600)


def is_marked_unclean(database: Path) -> bool:
    """Tell whether an earlier process ended in a way that damage may have caused."""
    return _beside(database, _SUSPECT).exists()


def clear_unclean_mark(database: Path) -> None:
    """Note that every row was looked at."""
    _beside(database, _SUSPECT).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path, tail: str) -> Path:
    return path.with_name(f"{path.name}{tail}")
