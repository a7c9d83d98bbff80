"""A service manager's ear: the socket it gives a service to speak to."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGEST = 4_096


class Ear:
    """Hears states; each datagram is lines of NAME=value.

    Attributes:
        address: What NOTIFY_SOCKET must say.
    """

    def __init__(self, listener: socket.socket, address: str) -> None:
        self._listener = listener
        self.address = address

    def hear(self) -> dict[str, str]:
        """Return the next states by name.

        Raises:
            TimeoutError: If nothing is said for too long.
        """
        lines = self._listener.recv(LARGEST).decode().splitlines()
        return {name: text for name, _, text in (line.partition("=") for line in lines)}

    def hear_until(self, name: str) -> dict[str, str]:
        """Return the first states that hold `name`, once they come."""
        while name not in (states := self.hear()):
            pass
        return states


@contextmanager
def listening(folder: Path, *, silence_s: float) -> Iterator[Ear]:
    """Listen in `folder` while the block runs; give up after so much silence."""
    address = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(silence_s)
        yield Ear(listener, str(address))
