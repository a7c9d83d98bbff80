"""Carries out operations of the admin API: over HTTP in a daemon, or in this process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError
from yarl import URL

from relay.errors import CommandFailed, NoDaemon, NotFound
from relay.http.admin.ndjson import NDJSON, NdjsonStream, as_objects
from relay.http.admin.operations import AnyOperation, Call, NoInput, Operation
from relay.http.admin.schemas import ErrorAnswer
from relay.http.server.tls import trusting
from relay.settings import Address, Settings

CONNECT_TIMEOUT_S: Final = 5.0

ANSWER_TIMEOUT_S: Final = 600.0
"""An action on very many items is one request."""

LOOPBACK: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Where this machine reaches a door that listens on all its addresses."""

JSON: Final = "application/json"

GOOD: Final = frozenset({200, 204})
UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404

Context = TypeVar("Context")
Context_co = TypeVar("Context_co", covariant=True)
Input = TypeVar("Input", bound=BaseModel)
Output = TypeVar("Output", bound=BaseModel)

Line: TypeAlias = Mapping[str, object]
"""An object of an NDJSON stream."""

Lines: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Line]]


class Client(Protocol[Context_co]):
    """Carries out the operations that need no more than a context offers."""

    @property
    def has_daemon(self) -> bool:
        """Whether a running daemon answers."""

    async def call(
        self,
        operation: Operation[Context_co, Input, Output],
        given: Input,
        file: AsyncIterator[bytes] | None = None,
        /,
        **path: str,
    ) -> Output:
        """Carry out an operation and return its output.

        Args:
            operation: What to do.
            given: Its input.
            file: The file it takes, in chunks.
            path: The variables of its path.

        Raises:
            NotFound: If what it names does not exist.
            NoDaemon: If it goes to a daemon and none listens.
            RelayError: If it cannot be done; the text says why.
        """

    def lines(self, operation: AnyOperation[Context_co], given: BaseModel, **path: str) -> Lines:
        """Open the NDJSON stream of an operation; raises as `call` does, also while it is read."""


class HttpClient:
    """Carries out operations in a running daemon."""

    has_daemon = True

    def __init__(
        self, session: aiohttp.ClientSession, address: Address, tls: SSLContext | None = None
    ) -> None:
        self._session = session
        self._address = address
        self._tls = tls
        self._base = door_url(address, is_tls=tls is not None)

    async def call(
        self,
        operation: Operation[Any, Input, Output],
        given: Input,
        file: AsyncIterator[bytes] | None = None,
        /,
        **path: str,
    ) -> Output:
        """Carry out an operation and return its output; see `Client.call`."""
        async with self._request(operation, given, path, file=file) as response:
            raw = await response.read()
        try:
            return operation.output.model_validate_json(raw or b"{}")  # a 204 has no body
        except ValidationError as error:
            raise _other_version(self._address) from error

    @asynccontextmanager
    async def lines(
        self, operation: AnyOperation[Any], given: BaseModel, **path: str
    ) -> AsyncIterator[AsyncIterator[Line]]:
        """Open the NDJSON stream of an operation; see `Client.lines`."""
        async with self._request(operation, given, path, accept=NDJSON) as response:
            yield _read_lines(response, self._address)

    @asynccontextmanager
    async def _request(
        self,
        operation: AnyOperation[Any],
        given: BaseModel,
        path: Mapping[str, str],
        *,
        file: AsyncIterator[bytes] | None = None,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a successful response whose body is still to be read."""
        # What is absent has the same default at the other end; `null` is no value of a query.
        asked = given.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        has_body = not operation.has_query and not isinstance(given, NoInput)
        try:
            async with self._session.request(
                operation.method,
                self._base.joinpath(operation.url_path(path)[1:], encoded=True),
                params=_query(asked) if operation.has_query else None,
                data=orjson.dumps(asked) if has_body else file,
                headers={"Accept": accept},
                allow_redirects=False,  # the token is for this door alone
                ssl=self._tls or True,
            ) as response:
                if response.status not in GOOD:
                    raise _refusal(response.status, await response.read(), self._address)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._explain(error) from error

    def _explain(self, error: aiohttp.ClientError | TimeoutError) -> CommandFailed:
        """Return an exchange that failed below HTTP as a sentence with the likely remedy."""
        door = self._address
        match error:  # the most special first: each of the next two is a `ClientConnectorError`
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
            case aiohttp.ServerDisconnectedError() if self._tls is None:
                return CommandFailed(
                    f"the relay on {door} ended the connection without an answer; "
                    "if it speaks TLS, set RELAY_ADMIN_TLS_CERT_FILE"
                )
            case _:
                return CommandFailed(f"the exchange with the relay on {door} failed: {error}")


class LocalClient(Generic[Context]):
    """Carries out operations in this process, on stores it has opened itself."""

    has_daemon = False

    def __init__(self, context: Context) -> None:
        self._context = context

    async def call(
        self,
        operation: Operation[Context, Input, Output],
        given: Input,
        file: AsyncIterator[bytes] | None = None,
        /,
        **path: str,
    ) -> Output:
        """Carry out an operation and return its output; see `Client.call`."""
        call = Call(path, given, wants_lines=False, file=file or _no_file())
        output = await operation.handle(self._context, call)
        if isinstance(output, NdjsonStream):
            raise TypeError(f"{operation.path} answers with a stream only")
        return output

    @asynccontextmanager
    async def lines(
        self, operation: AnyOperation[Context], given: BaseModel, **path: str
    ) -> AsyncIterator[AsyncIterator[Line]]:
        """Open the NDJSON stream of an operation; see `Client.lines`."""
        call = Call(path, given, wants_lines=True, file=_no_file())
        stream = await operation.handle(self._context, call)
        async with stream.blocks as blocks:
            shape = operation.lines or BaseModel
            yield (line async for rows in blocks for line in as_objects(shape, rows))


@asynccontextmanager
async def open_daemon_client(settings: Settings) -> AsyncIterator[HttpClient]:
    """Yield a client of the daemon that the configuration describes; nothing is sent yet."""
    token = settings.admin_token
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S
    )
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield HttpClient(session, settings.admin_listen, trusted(settings.admin_tls_cert_file))


def trusted(cert_file: Path | None) -> SSLContext | None:
    """Return how to reach a door with this certificate; `None` for one that speaks plain HTTP."""
    return trusting(cert_file) if cert_file else None


def door_url(address: Address, *, is_tls: bool) -> URL:
    """Return the URL at which this machine reaches a door."""
    host = LOOPBACK.get(address.host, address.host)
    return URL.build(scheme="https" if is_tls else "http", host=host, port=address.port)


def _query(asked: Mapping[str, object]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in asked.items()
    }


async def _no_file() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk


async def _read_lines(response: aiohttp.ClientResponse, address: Address) -> AsyncIterator[Line]:
    async for raw in response.content:
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _other_version(address) from error
        if not isinstance(line, dict):
            raise _other_version(address)
        yield line


def _other_version(address: Address) -> CommandFailed:
    return CommandFailed(f"what answers on {address} is no relay of this version")


def _refusal(status: int, raw: bytes, address: Address) -> CommandFailed | NotFound:
    if status == UNAUTHORIZED:
        return CommandFailed(f"the relay on {address} does not take this RELAY_ADMIN_TOKEN")
    try:
        sentence = ErrorAnswer.model_validate_json(raw).error
    except ValidationError:
        return CommandFailed(f"what answers on {address} is no relay (status {status})")
    return NotFound(sentence) if status == NOT_FOUND else CommandFailed(sentence)
