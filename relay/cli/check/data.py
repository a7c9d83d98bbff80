"""Checks the data directory and its databases without changing anything, not even a lock.

SQLite makes files beside a database with a write-ahead log, also when it only reads. So a
database without its log is read as immutable; one with a log has those files.

relay makes its files readable by their owner alone, but respects an operator who opens them to
others: a group may well be meant to read the segment table.
"""

import os
import sqlite3
import stat
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from relay.cli.check.report import Finding, bad, good
from relay.cli.data_access import nearest_of
from relay.database.counters_sidecar import SidecarRecord, load_record
from relay.database.recovery.archive import find_archived
from relay.database.recovery.check import RecoverySpec, find_damage_in_content, find_damage_in_files
from relay.database.recovery.pages import open_pages
from relay.errors import SchemaTooNew
from relay.outbox.recovery import outbox_recovery_spec
from relay.outbox.store import DATABASE_NAME as OUTBOX_NAME
from relay.segments.recovery import RECOVERY_SPEC as SEGMENTS_SPEC
from relay.segments.store import DATABASE_NAME as SEGMENTS_NAME
from relay.settings import Settings

FOLDER: Final = "data directory"
ACCESS: Final = "access"
SQLITE: Final = "SQLite"

SOUND_SINCE: Final = (3, 51, 3)
"""The log-reset defect is gone from here on. Source: sqlite.org/wal.html, 2026."""

BUSY_TIMEOUT_S: Final = 5.0

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
    """Say whether the data directory is there and can be written, or can be made."""
    nearest = nearest_of(folder)
    if not nearest.is_dir():
        return bad(FOLDER, f"{nearest} is no folder")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        return bad(FOLDER, f"{nearest} cannot be written by this user")
    return good(FOLDER, f"{folder}" if nearest == folder else f"{folder}, made at the first start")


def _check_access(folder: Path) -> Finding:
    """Say who may read and who may change the data directory and its files."""
    try:
        modes = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    except OSError as error:
        return good(ACCESS, f"nothing to look at: {folder}: {error.strerror}")
    open_to_change = _those(modes, stat.S_IWGRP | stat.S_IWOTH)
    if open_to_change:
        return bad(ACCESS, f"others can change {_named(open_to_change)}: chmod go-w")
    is_reachable = modes.pop(folder) & (stat.S_IXGRP | stat.S_IXOTH)
    open_to_read = _those(modes, stat.S_IRGRP | stat.S_IROTH)
    if is_reachable and open_to_read:
        return good(ACCESS, f"others can read {_named(open_to_read)}; unless meant so: chmod go-r")
    return good(ACCESS, "for the owner alone")


def _those(modes: dict[Path, int], bits: int) -> list[Path]:
    return [path for path, mode in sorted(modes.items()) if mode & bits]


def _named(paths: Iterable[Path]) -> str:
    first, *others = paths
    more = f" and {len(others)} files more" if others else ""
    return f"{first}{more}"


def _check_database(path: Path, spec: RecoverySpec) -> Finding:
    """Say whether a database is whole and of a schema this relay knows.

    Args:
        path: The file; it need not be there.
        spec: What recovery knows of it.
    """
    name = path.name
    record = load_record(path)  # before the database: it may be older, and never is newer
    if not os.path.lexists(path):
        if record or path.with_name(f"{name}-wal").exists():
            return bad(name, f"{path} is missing, but it was there; {_MENDED}")
        return good(name, "not there yet, made at the first start")
    if not os.access(path, os.R_OK | os.W_OK):
        return bad(name, f"{path} cannot be read and written by this user")
    has_log, has_index = (path.with_name(name + tail).exists() for tail in ("-wal", "-shm"))
    try:
        faults = [] if has_index else _examine_at_rest(path, spec, record)
        if faults:
            return bad(name, f"{path} is damaged: {'; '.join(faults)}; {_MENDED}")
        if has_log and not has_index:
            return good(
                name, "has a log without its index: the next start reads it, a check cannot"
            )
        return _check_content(path, spec, record, has_log=has_log)
    except SchemaTooNew as error:
        return bad(name, str(error))
    except (sqlite3.Error, OSError) as error:
        return bad(name, f"{path} cannot be read: {error}; {_MENDED}")


def _examine_at_rest(path: Path, spec: RecoverySpec, record: SidecarRecord) -> list[str]:
    """Look at the files themselves, which nobody changes."""
    with open_pages(path) as pages:
        if not pages.count:
            return ["it is empty, but it was not"] if record else []
        return find_damage_in_files(pages, spec, record)


def _check_content(
    path: Path, spec: RecoverySpec, record: SidecarRecord, *, has_log: bool
) -> Finding:
    newest = len(spec.migrations)
    with closing(_open_unchanging(path, has_log=has_log)) as raw:
        raw.execute("BEGIN")
        (schema,) = raw.execute("PRAGMA user_version").fetchone()
        if schema > newest:
            return bad(path.name, f"has schema {schema}, this relay knows up to {newest}")
        faults = find_damage_in_content(raw, spec, record, whole=True)
    if faults:
        return bad(path.name, f"{path} is damaged: {'; '.join(faults)}; {_MENDED}")
    if schema < newest:
        return good(path.name, f"whole; schema {schema}, brought to {newest} at the next start")
    return good(path.name, f"whole; schema {schema}")


def _check_archived(path: Path) -> list[Finding]:
    """Name what was set aside of a database, what was saved of it and what is lost."""
    if not path.parent.is_dir():
        return []
    return [
        good(
            f"{path.name}, damaged",
            f"set aside as {aside.path.name}: {aside.why}; saved {_amounts(aside.saved)}, "
            f"lost {_amounts(aside.lost)}; nothing needs it, a person may look at it and remove it",
        )
        for aside in find_archived(path)
    ]


def _amounts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items()) or "nothing"


def _check_sqlite() -> Finding:
    """Say which SQLite is used, and what that means."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= SOUND_SINCE:
        return good(SQLITE, version)
    sound = ".".join(map(str, SOUND_SINCE))
    return good(
        SQLITE,
        f"{version}; before {sound} two writers at once can lose a commit (the WAL-reset defect): "
        "relay has one writer and is not concerned, leave other programs read-only",
    )


def _open_unchanging(path: Path, *, has_log: bool) -> sqlite3.Connection:
    mode = "mode=ro" if has_log else "immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
