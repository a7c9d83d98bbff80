"""How many files and sockets the process may have open at a time.

The soft limit most systems start with, 1024, is there for the sake of programs that use `select`;
a service raises it itself (systemd.exec, "LimitNOFILE=").
"""

import resource


def raise_descriptor_limit() -> None:
    """Take as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return how many there may be."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
