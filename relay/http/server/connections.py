"""The connections of a door: a bounded number, and timeouts for each of them.

Opening a connection costs a client nothing. So a door has a connection limit, and once it is
reached a new connection evicts one that is not being answered: first one that never sent a
request, then the one that has been idle longest, then one whose body is still arriving.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

MOST_CONNECTIONS: Final = 4096
"""Of one door, where the descriptor limit allows it; an idle connection costs some 20 KB."""

FEWEST_CONNECTIONS: Final = 4

RESERVED_DESCRIPTORS: Final = 64
"""Left to databases, uploads and everything else but doors; a quarter of all, if that is more."""

PIPELINED_AT_ONCE: Final = 8
"""Pipelined requests answered at once: enough to share a sync, too few to be noticed."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may occupy a door, and with how much.

    Attributes:
        head_s: For the whole head of a request: from opening, or from its first bytes.
        idle_s: Between two requests; longer than reverse proxies keep a connection, so that
            they close it first and never lose a request on a closed one.
        stall_s: For the client to read `progress_bytes` of an answer.
        check_s: How often these are checked.
        head_bytes: Of one head, all its lines together.
        progress_bytes: What a client has to read within `stall_s` to get another `stall_s`.
    """

    head_s: float = 20.0
    idle_s: float = 180.0
    stall_s: float = 30.0
    check_s: float = 5.0
    head_bytes: int = 64 * 1024
    progress_bytes: int = 16 * 1024


class Connection(Protocol):
    """One connection, as its door sees it."""

    @property
    def is_busy(self) -> bool:
        """Whether a request on it is being answered."""

    @property
    def is_sending(self) -> bool:
        """Whether the body of its last request is still arriving."""

    def abort(self) -> None:
        """Close it at once, whatever is in flight."""


class Connections:
    """All connections of a door.

    Attributes:
        timeouts: Of each of them.
        pipelining: Pipelined requests share this semaphore, so a pipelining client can only delay
            other pipelining clients.
    """

    def __init__(self, limit: int = MOST_CONNECTIONS, timeouts: Timeouts | None = None) -> None:
        self.timeouts = timeouts or Timeouts()
        self.pipelining = anyio.Semaphore(PIPELINED_AT_ONCE)
        self._limit = limit
        self._new: OrderedDict[Connection, None] = OrderedDict()
        self._active: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._new) + len(self._active)

    def add(self, connection: Connection) -> None:
        """Add a new connection; at the limit another is aborted for it, or it is itself."""
        if len(self) >= self._limit:
            evicted = self._find_evictable()
            if evicted is None:
                connection.abort()
                return
            self.remove(evicted)
            evicted.abort()
        self._new[connection] = None

    def mark_active(self, connection: Connection) -> None:
        """Record that a request has arrived on a connection."""
        if connection in self._active:
            self._active.move_to_end(connection)
        else:
            self._new.pop(connection, None)
            self._active[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a closed connection, known or not."""
        self._new.pop(connection, None)
        self._active.pop(connection, None)

    def _find_evictable(self) -> Connection | None:
        # A crowd that connects and sends nothing must not push out clients that do.
        new = next(iter(self._new), None)
        if new is not None:
            return new
        idle = next((one for one in self._active if not one.is_busy), None)
        return idle or next((one for one in self._active if one.is_sending), None)


def share_descriptors(limit: int) -> tuple[int, int]:
    """Return the connection limits of the public and the admin door.

    Args:
        limit: File descriptors the process may have.
    """
    spare = max(limit - max(RESERVED_DESCRIPTORS, limit // 4), limit // 3)
    admin = max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS // 16, spare // 8))
    public = max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, spare - admin))
    return public, admin
