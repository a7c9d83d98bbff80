"""The connections of a door: how many there may be, and how long each may keep relay waiting.

A connection costs its opener nothing. So a door holds a bounded number of them, and when it is
full room is made for a newcomer: first goes who never asked anything, then who asked longest ago,
then whose body has been coming for longest. Whoever is being answered stays. Those who ask without
taking an answer first wait in one line, so that they keep nobody but each other waiting.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import anyio

MOST_CONNECTIONS = 4096
"""A door's, where the system allows so many; a connection that is idle costs some 20 KB."""

FEWEST_CONNECTIONS = 4

RESERVED_DESCRIPTORS = 64
"""For the databases, the uploads and what else is no door; at least, and a quarter of all."""

ABREAST = 8
"""Of those who wait in line, answered at a time: enough to share a sync, too few to be noticed."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may keep a door waiting, and with how much.

    Attributes:
        head_s: For the whole head of a request: from opening, or from its first bytes.
        idle_s: Between two requests; longer than reverse proxies keep a connection, so that
            they are who closes it and never find it closed under a request.
        stall_s: For taking `progress_bytes` of an answer.
        check_s: How exactly all this is kept.
        head_bytes: Of one head, all its lines together.
        progress_bytes: What a reader has to take in `stall_s` to be waited for again.
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
        """Whether a request of it is being answered."""

    @property
    def is_sending(self) -> bool:
        """Whether the body of its last request is still coming."""

    def cut(self) -> None:
        """Close it at once, whatever is under way."""


class Connections:
    """Who is connected to a door.

    Attributes:
        patience: With each of them.
        line: Where those wait who ask ahead of the answers.
    """

    def __init__(self, most: int = MOST_CONNECTIONS, patience: Timeouts | None = None) -> None:
        self.patience = patience or Timeouts()
        self.line = anyio.Semaphore(ABREAST)
        self._most = most
        self._strangers: OrderedDict[Connection, None] = OrderedDict()
        self._callers: OrderedDict[Connection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._callers)

    def admit(self, newcomer: Connection) -> None:
        """Take one in, in another's place if need be; where none can go it is cut itself."""
        if len(self) >= self._most:
            leaver = self._find_leaver()
            if leaver is None:
                newcomer.cut()
                return
            self.forget(leaver)
            leaver.cut()
        self._strangers[newcomer] = None

    def asked(self, connection: Connection) -> None:
        """Note that a request has come from it."""
        if connection in self._callers:
            self._callers.move_to_end(connection)
        else:
            self._strangers.pop(connection, None)
            self._callers[connection] = None

    def forget(self, connection: Connection) -> None:
        """Let one go."""
        self._strangers.pop(connection, None)
        self._callers.pop(connection, None)

    def _find_leaver(self) -> Connection | None:
        stranger = next(iter(self._strangers), None)
        if stranger is not None:
            return stranger
        idle = next((caller for caller in self._callers if not caller.is_busy), None)
        return idle or next((caller for caller in self._callers if caller.is_sending), None)


def share_descriptors(limit: int) -> tuple[int, int]:
    """Return how many connections the public and the admin door may have.

    Args:
        limit: File descriptors the process may have.
    """
    spare = max(limit - max(RESERVED_DESCRIPTORS, limit // 4), limit // 3)
    admin = max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS // 16, spare // 8))
    public = max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, spare - admin))
    return public, admin
