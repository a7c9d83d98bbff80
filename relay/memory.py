"""Keeps what the process has in memory, keys and events, out of core dumps and other eyes.

Source: core(5) and prctl(2), Linux 6: a limit of 0 stops core files, but not a program that cores
are piped to; a process that is not dumpable has neither, and only root can attach to it or read
its environment.
"""

import ctypes
import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4


def keep_memory_private() -> None:
    """Leave no core dump whatever happens, and let no other process of this user look in."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
