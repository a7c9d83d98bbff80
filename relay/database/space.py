"""Giving free pages back to the file system, a few at a time."""

import sqlite3


def vacuum(raw: sqlite3.Connection, pages: int) -> None:
    """Give up to `pages` free pages back, if there are more."""
    (free,) = raw.execute("PRAGMA freelist_count").fetchone()
    if free > pages:
        for _ in range(pages):  # Python steps the statement once, and a step frees one page
            raw.execute("PRAGMA incremental_vacuum(1)").fetchall()
