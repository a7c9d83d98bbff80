"""The admin door of the daemon, as a command knocks at it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError
from yarl import URL

from relay.cli.failure import CommandFailed
from relay.doors.admin.models import ErrorAnswer
from relay.doors.admin.operations import PREFIX
from relay.settings import Address, Settings

CONNECT_TIMEOUT_S: Final = 5.0

ANSWER_TIMEOUT_S: Final = 600.0
"""An action on very many items is one request."""

LOOPBACK: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Where a door that listens everywhere is reached from this machine."""

OK: Final = 200
UNAUTHORIZED: Final = 401

Answer = TypeVar("Answer", bound=BaseModel)


class NoDaemon(CommandFailed):
    """No relay is running where the configuration says."""


class AdminApi:
    """The JSON API of a running daemon."""

    def __init__(self, session: aiohttp.ClientSession, address: Address) -> None:
        self._session = session
        self._address = address
        self._base = dial(address)

    async def get(
        self, path: str, shape: type[Answer], query: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask for something.

        Raises:
            NoDaemon: If nobody listens.
            CommandFailed: If the answer is an error, saying which.
        """
        return _read(await self.fetch("GET", path, query=query), shape, self._address)

    async def post(self, path: str, shape: type[Answer], body: object = None) -> Answer:
        """Have something done.

        Raises:
            NoDaemon: If nobody listens.
            CommandFailed: If the answer is an error, saying which.
        """
        return _read(await self.fetch("POST", path, body=body), shape, self._address)

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> bytes:
        """Return the body of a good answer.

        Raises:
            NoDaemon: If nobody listens.
            CommandFailed: If the answer is an error, saying which.
        """
        try:
            async with self._session.request(
                method,
                self._base.joinpath(PREFIX[1:] + path, encoded=True),
                params=query,
                data=None if body is None else orjson.dumps(body),
                allow_redirects=False,
            ) as response:
                raw = await response.read()
                if response.status != OK:
                    raise CommandFailed(_complaint(response.status, raw, self._address))
                return raw
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NoDaemon(f"no relay is running on {self._address}") from error
        except TimeoutError as error:
            raise CommandFailed(f"the relay on {self._address} does not answer") from error
        except aiohttp.ClientError as error:
            raise CommandFailed(
                f"the exchange with the relay on {self._address} failed: {error}"
            ) from error


@asynccontextmanager
async def open_admin_api(settings: Settings) -> AsyncIterator[AdminApi]:
    """Yield the API of the daemon that the configuration describes; nothing is asked yet."""
    token = settings.admin_token
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    timeout = aiohttp.ClientTimeout(ANSWER_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield AdminApi(session, settings.admin_listen)


def dial(address: Address) -> URL:
    """Return the URL at which this machine reaches a door."""
    host = LOOPBACK.get(address.host, address.host)
    return URL.build(scheme="http", host=host, port=address.port)


def _read(raw: bytes, shape: type[Answer], address: Address) -> Answer:
    try:
        return shape.model_validate_json(raw)
    except ValidationError as error:
        raise CommandFailed(f"what answers on {address} is no relay of this version") from error


def _complaint(status: int, raw: bytes, address: Address) -> str:
    if status == UNAUTHORIZED:
        return f"the relay on {address} does not take this RELAY_ADMIN_TOKEN"
    try:
        return ErrorAnswer.model_validate_json(raw).error
    except ValidationError:
        return f"what answers on {address} is no relay (status {status})"
