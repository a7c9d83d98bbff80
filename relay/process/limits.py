"""What the process asks of the kernel for itself: descriptors, and memory nobody else can read.

Most systems start a process with a soft limit of 1,024 descriptors, for the sake of programs that
use `select`; a service raises it itself (systemd.exec, "LimitNOFILE=").

Source: core(5) and prctl(2), Linux 6: a limit of 0 stops core files, but not a program that cores
are piped to; a process that is not dumpable has neither, and only root can attach to it or read
its environment.
"""

import ctypes
import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return the number of files and sockets this process may have open at once."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def keep_memory_private() -> None:
    """Forbid core dumps, and reads of this memory by other processes of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
