"""A service manager's notification socket."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGEST = 4_096


class NotifySocket:
    """Receives states; each datagram is lines of NAME=value.

    Attributes:
        address: Value for NOTIFY_SOCKET.
    """

    def __init__(self, listener: socket.socket, address: str) -> None:
        self._listener = listener
        self.address = address

    def receive(self) -> dict[str, str]:
        """Return the next states by name.

        Raises:
            TimeoutError: If nothing arrives in time.
        """
        lines = self._listener.recv(LARGEST).decode().splitlines()
        return {name: text for name, _, text in (line.partition("=") for line in lines)}

    def receive_until(self, name: str) -> dict[str, str]:
        """Return the first states that contain `name`."""
        while name not in (states := self.receive()):
            pass
        return states


@contextmanager
def listening(folder: Path, *, silence_s: float) -> Iterator[NotifySocket]:
    """Listen in `folder` while the block runs, with this timeout for each datagram."""
    address = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(silence_s)
        yield NotifySocket(listener, str(address))
