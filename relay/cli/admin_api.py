"""The admin door of the daemon, as a command knocks at it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Final, TypeAlias, TypeVar
from urllib.parse import quote

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError
from yarl import URL

from relay.cli.failure import CommandFailed
from relay.http.admin.operations import PREFIX
from relay.http.admin.schemas import ErrorAnswer
from relay.http.server.tls import trusting
from relay.settings import Address, Settings

CONNECT_TIMEOUT_S: Final = 5.0

ANSWER_TIMEOUT_S: Final = 600.0
"""An action on very many items is one request."""

LOOPBACK: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Where a door that listens everywhere is reached from this machine."""

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

GOOD: Final = frozenset({200, 204})
UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404

Answer = TypeVar("Answer", bound=BaseModel)

Line: TypeAlias = Mapping[str, object]
"""An object of an NDJSON stream."""


class NoDaemon(CommandFailed):
    """No relay is running where the configuration says."""


class NotThere(CommandFailed):
    """What was asked about does not exist."""


class AdminApi:
    """The JSON API of a running daemon."""

    def __init__(
        self, session: aiohttp.ClientSession, address: Address, tls: SSLContext | None = None
    ) -> None:
        self._session = session
        self._address = address
        self._tls = tls or True
        self._has_tls = tls is not None
        self._base = dial(address, is_tls=tls is not None)

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

    async def send(
        self,
        path: str,
        shape: type[Answer],
        pieces: AsyncIterator[bytes],
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a file, piece by piece, and have something done with it.

        Raises:
            NoDaemon: If nobody listens.
            CommandFailed: If the answer is an error, saying which.
        """
        async with self._ask("POST", path, query=query, data=pieces) as response:
            return _read(await response.read(), shape, self._address)

    @asynccontextmanager
    async def lines(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[AsyncIterator[Line]]:
        """Yield the objects of an NDJSON stream, as they come.

        Raises:
            NoDaemon: If nobody listens.
            CommandFailed: If the answer is an error, or ends too early.
        """
        async with self._ask("GET", path, query=query, accept=NDJSON) as response:
            yield _read_lines(response, self._address)

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
        data = None if body is None else orjson.dumps(body)
        async with self._ask(method, path, query=query, data=data) as response:
            return await response.read()

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a good answer, whose body is still to be read."""
        try:
            async with self._session.request(
                method,
                self._base.joinpath(PREFIX[1:] + path, encoded=True),
                params=query,
                data=data,
                headers={"Accept": accept},
                allow_redirects=False,
                ssl=self._tls,
            ) as response:
                if response.status not in GOOD:
                    raise _refusal(response.status, await response.read(), self._address)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._explain(error) from error

    def _explain(self, error: aiohttp.ClientError | TimeoutError) -> CommandFailed:
        """Return what to tell a person of an exchange that failed below HTTP."""
        door = self._address
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return CommandFailed(
                    f"what answers on {door} does not hold the certificate of "
                    "RELAY_ADMIN_TLS_CERT_FILE: after a renewal, have relay reload it (SIGHUP)"
                )
            case aiohttp.ClientConnectorSSLError():
                return CommandFailed(
                    f"what answers on {door} does not speak TLS: a relay that was started "
                    "without RELAY_ADMIN_TLS_CERT_FILE takes a restart"
                )
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return NoDaemon(f"no relay is running on {door}")
            case TimeoutError():
                return CommandFailed(f"the relay on {door} does not answer")
            case aiohttp.ServerDisconnectedError() if not self._has_tls:
                return CommandFailed(
                    f"the relay on {door} ended the connection without an answer; "
                    "if it speaks TLS, set RELAY_ADMIN_TLS_CERT_FILE"
                )
            case _:
                return CommandFailed(f"the exchange with the relay on {door} failed: {error}")


@asynccontextmanager
async def open_admin_api(settings: Settings) -> AsyncIterator[AdminApi]:
    """Yield the API of the daemon that the configuration describes; nothing is asked yet."""
    token = settings.admin_token
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S
    )
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield AdminApi(session, settings.admin_listen, tls_of(settings.admin_tls_cert_file))


def tls_of(cert_file: Path | None) -> SSLContext | None:
    """Return how to reach a door with this certificate; None for one that speaks plain HTTP."""
    return trusting(cert_file) if cert_file else None


def dial(address: Address, *, is_tls: bool) -> URL:
    """Return the URL at which this machine reaches a door."""
    host = LOOPBACK.get(address.host, address.host)
    return URL.build(scheme="https" if is_tls else "http", host=host, port=address.port)


def path_of(*parts: str) -> str:
    """Return a path below the API's prefix, whatever its parts hold: slashes, dots, spaces."""
    return "".join(f"/{quote(part, safe='').replace('.', '%2E')}" for part in parts)


async def _read_lines(response: aiohttp.ClientResponse, address: Address) -> AsyncIterator[Line]:
    async for raw in response.content:
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _stranger(address) from error
        if not isinstance(line, dict):
            raise _stranger(address)
        yield line


def _read(raw: bytes, shape: type[Answer], address: Address) -> Answer:
    try:
        return shape.model_validate_json(raw)
    except ValidationError as error:
        raise _stranger(address) from error


def _stranger(address: Address) -> CommandFailed:
    return CommandFailed(f"what answers on {address} is no relay of this version")


def _refusal(status: int, raw: bytes, address: Address) -> CommandFailed:
    if status == UNAUTHORIZED:
        return CommandFailed(f"the relay on {address} does not take this RELAY_ADMIN_TOKEN")
    try:
        sentence = ErrorAnswer.model_validate_json(raw).error
    except ValidationError:
        return CommandFailed(f"what answers on {address} is no relay (status {status})")
    return NotThere(sentence) if status == NOT_FOUND else CommandFailed(sentence)
