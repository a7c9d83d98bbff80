"""Looks who besides the owner may read or change what relay stores.

relay makes its files for their owner alone, and leaves alone what a person has opened to others:
a group may well be meant to read the segment table.
"""

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from relay.cli.findings import Finding, bad, good

NAME: Final = "access"


def check_access(folder: Path) -> Finding:
    """Say who may read and who may change the data directory and its files."""
    try:
        modes = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    except OSError as error:
        return good(NAME, f"nothing to look at: {folder}: {error.strerror}")
    open_to_change = _those(modes, stat.S_IWGRP | stat.S_IWOTH)
    if open_to_change:
        return bad(NAME, f"others can change {_named(open_to_change)}: chmod go-w")
    is_reachable = modes.pop(folder) & (stat.S_IXGRP | stat.S_IXOTH)
    open_to_read = _those(modes, stat.S_IRGRP | stat.S_IROTH)
    if is_reachable and open_to_read:
        return good(NAME, f"others can read {_named(open_to_read)}; unless meant so: chmod go-r")
    return good(NAME, "for the owner alone")


def _those(modes: dict[Path, int], bits: int) -> list[Path]:
    return [path for path, mode in sorted(modes.items()) if mode & bits]


def _named(paths: Iterable[Path]) -> str:
    first, *others = paths
    more = f" and {len(others)} files more" if others else ""
    return f"{first}{more}"
