"""Checks the data directory and its databases.

relay makes its files readable by their owner alone, but respects an operator who opens them to
others: a group may well be meant to read the segment table.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from relay.cli.check.report import Finding, bad, good
from relay.cli.data_access import nearest_of
from relay.database.recovery.archive import find_archived
from relay.database.recovery.check import RecoverySpec
from relay.database.recovery.inspection import (
    HAS_WAL_RESET_DEFECT,
    SOUND_SINCE,
    SQLITE_VERSION,
    inspect,
)
from relay.errors import SchemaTooNew, StoreFailed
from relay.outbox.recovery import outbox_recovery_spec
from relay.outbox.store import DATABASE_NAME as OUTBOX_NAME
from relay.segments.recovery import RECOVERY_SPEC as SEGMENTS_SPEC
from relay.segments.store import DATABASE_NAME as SEGMENTS_NAME
from relay.settings import Settings

FOLDER: Final = "data directory"
ACCESS: Final = "access"
SQLITE: Final = "SQLite"

_MENDED: Final = "the next start sets it aside, saves what can be read and counts what is lost"


def check_data(settings: Settings) -> list[Finding]:
    """Check the data directory, who may read it, its databases, and SQLite itself."""
    folder = settings.data_dir
    findings = [_check_folder(folder), _check_access(folder)]
    specs = {OUTBOX_NAME: outbox_recovery_spec(settings.apps), SEGMENTS_NAME: SEGMENTS_SPEC}
    for name, spec in specs.items():
        path = (folder / name).resolve()
        findings += [_check_database(path, spec), *_check_archived(path)]
    return [*findings, _check_sqlite()]


def _check_folder(folder: Path) -> Finding:
    """Check whether the data directory exists and can be written, or can be made."""
    nearest = nearest_of(folder)
    if not nearest.is_dir():
        return bad(FOLDER, f"{nearest} is no folder")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        return bad(FOLDER, f"{nearest} cannot be written by this user")
    return good(FOLDER, f"{folder}" if nearest == folder else f"{folder}, made at the first start")


def _check_access(folder: Path) -> Finding:
    """Check who besides the owner may read or change the data directory and its files."""
    try:
        modes = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    except OSError as error:
        return good(ACCESS, f"nothing to look at: {folder}: {error.strerror}")
    open_to_change = _with_any(modes, stat.S_IWGRP | stat.S_IWOTH)
    if open_to_change:
        return bad(ACCESS, f"others can change {_first_of(open_to_change)}: chmod go-w")
    is_reachable = modes.pop(folder) & (stat.S_IXGRP | stat.S_IXOTH)
    open_to_read = _with_any(modes, stat.S_IRGRP | stat.S_IROTH)
    if is_reachable and open_to_read:
        return good(
            ACCESS, f"others can read {_first_of(open_to_read)}; unless meant so: chmod go-r"
        )
    return good(ACCESS, "for the owner alone")


def _with_any(modes: dict[Path, int], bits: int) -> list[Path]:
    return [path for path, mode in sorted(modes.items()) if mode & bits]


def _first_of(paths: Iterable[Path]) -> str:
    first, *others = paths
    more = f" and {len(others)} files more" if others else ""
    return f"{first}{more}"


def _check_database(path: Path, spec: RecoverySpec) -> Finding:
    """Check whether a database is whole and of a schema this relay knows."""
    name, is_there = path.name, os.path.lexists(path)
    if is_there and not os.access(path, os.R_OK | os.W_OK):
        return bad(name, f"{path} cannot be read and written by this user")
    try:
        damage, schema = inspect(path, spec)
    except SchemaTooNew as error:
        return bad(name, str(error))
    except StoreFailed as error:
        return bad(name, f"{error}; {_MENDED}")
    if damage and not is_there:
        return bad(name, f"{path} is missing, but it was there; {_MENDED}")
    if damage:
        return bad(name, f"{path} is damaged: {'; '.join(damage)}; {_MENDED}")
    if not is_there:
        return good(name, "not there yet, made at the first start")
    if schema is None:
        return good(name, "has a log without its index: the next start reads it, a check cannot")
    if schema < (newest := len(spec.migrations)):
        return good(name, f"whole; schema {schema}, brought to {newest} at the next start")
    return good(name, f"whole; schema {schema}")


def _check_archived(path: Path) -> list[Finding]:
    """Name what was set aside of a database, what was saved of it and what is lost."""
    if not path.parent.is_dir():
        return []
    return [
        good(
            f"{path.name}, damaged",
            f"set aside as {aside.path.name}: {aside.why}; saved {_amounts(aside.saved)}, "
            f"lost {_amounts(aside.lost)}; nothing needs it: look at it, then remove it",
        )
        for aside in find_archived(path)
    ]


def _amounts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items()) or "nothing"


def _check_sqlite() -> Finding:
    if not HAS_WAL_RESET_DEFECT:
        return good(SQLITE, SQLITE_VERSION)
    return good(
        SQLITE,
        f"{SQLITE_VERSION}; before {SOUND_SINCE} two writers at once can lose a commit (the "
        "WAL-reset defect): relay has one writer and is not concerned, leave other programs "
        "read-only",
    )
