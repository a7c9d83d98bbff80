"""`POST /2/httpapi` and `POST /batch`: Amplitude's upload API, for SDKs pointed at relay.

The key stands in the body, so bodies of strangers are read too: all bodies together are bounded,
and a large one is parsed only if it names a known key. An SDK gives up after seconds and keeps
nothing on disk; it repeats what is answered 503, 408 or not at all.

Source: Amplitude, HTTP V2 and Batch Event Upload references (2026).
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

import anyio
import anyio.to_thread
from aiohttp import web

from relay.errors import PayloadError, StoreError
from relay.http.auth import FailedAuthThrottle, Tokens
from relay.http.responses import RETRY_AFTER_S, Handler, json_response, unavailable
from relay.http.server.body import BodyBudget, BodyReader, Reservation, check_encoding, decompress
from relay.ingest.admission import AdmissionControl
from relay.ingest.events import Source
from relay.ingest.upload_request import (
    BATCH,
    HTTP_V2,
    STRANGER_BYTES,
    UploadApi,
    UploadRequest,
    keys_named,
    parse_request,
)
from relay.ingest.upload_responses import (
    INVALID_JSON,
    UploadResponse,
    bad_request,
    failed,
    invalid_api_key,
    missing_request_field,
    too_large,
)
from relay.ingest.uploads import UploadIngest

LARGE_BYTES: Final = 1_000_000
"""Bodies up to this size are parsed at once, in some 15 ms; larger ones one after the other, as
parsing takes ten times their size in memory."""

ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
"""Pages of any site may send, as to Amplitude: the key alone authenticates, no cookie does."""

PREFLIGHT: Final = {
    **ANY_ORIGIN,
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


class UploadApp(Protocol):
    """An app to whose Amplitude project SDKs may upload (`relay.daemon.app_runtime`)."""

    @property
    def upload_keys(self) -> Tokens:
        """Secrets SDKs present: the project's API key."""

    @property
    def source(self) -> Source:
        """The app as ingest sees it."""


class WrongKey(NamedTuple):
    """The key of a request is no app's.

    Attributes:
        given: The key.
    """

    given: str


class Uploads:
    """Answers uploads to every app's project."""

    def __init__(
        self,
        apps: Mapping[str, UploadApp],
        ingest: UploadIngest,
        admission: AdmissionControl,
        bodies: BodyReader,
        throttle: FailedAuthThrottle,
    ) -> None:
        self._apps = apps
        self._ingest = ingest
        self._admission = admission
        self._bodies = bodies
        self._throttle = throttle
        self._budget = BodyBudget()
        self._unpacking = anyio.Lock()
        self._parsing = anyio.Lock()

    @property
    def routes(self) -> dict[str, dict[str, Handler]]:
        """Handlers by path and method."""
        return {
            HTTP_V2.path: {"POST": self.post_http_v2, "OPTIONS": self.preflight},
            BATCH.path: {"POST": self.post_batch, "OPTIONS": self.preflight},
        }

    async def post_http_v2(self, request: web.BaseRequest) -> web.Response:
        """Answer `POST /2/httpapi`; 200 means that the events are on disk."""
        return await self._post(HTTP_V2, request)

    async def post_batch(self, request: web.BaseRequest) -> web.Response:
        """Answer `POST /batch`; 200 means that the events are on disk."""
        return await self._post(BATCH, request)

    async def preflight(self, _: web.BaseRequest) -> web.Response:
        """Answer a browser's preflight: any site may send."""
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=PREFLIGHT)

    async def _post(self, api: UploadApi, request: web.BaseRequest) -> web.Response:
        headers = dict(ANY_ORIGIN)
        try:
            taken = await self._take(api, request)
            if isinstance(taken, WrongKey):
                await self._throttle.slow(request.remote)
                answer = invalid_api_key(taken.given)
            else:
                answer = taken
        except web.HTTPRequestEntityTooLarge:
            answer = too_large()
        except web.HTTPException as error:
            answer = failed(error.status, error.text or error.reason)
        except StoreError as error:
            answer = failed(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return json_response(answer.body, status=answer.status, headers=headers)

    async def _take(self, api: UploadApi, request: web.BaseRequest) -> UploadResponse | WrongKey:
        if closed := self._admission.unavailable_reason:
            raise unavailable(closed)
        with self._budget.reserve() as reservation:
            try:
                content = await self._read(api, request, reservation)
            except (PayloadError, web.HTTPUnsupportedMediaType):
                return bad_request(INVALID_JSON)
            return self._refuse_stranger(content) or await self._receive(api, content)

    async def _read(
        self, api: UploadApi, request: web.BaseRequest, reservation: Reservation
    ) -> bytes:
        is_compressed = check_encoding(request)
        raw = await self._bodies.read(
            request, limit_bytes=api.max_body_bytes, reservation=reservation
        )
        if not is_compressed:
            return raw
        async with self._unpacking:  # one at a time: a small body may become a large one
            content = await anyio.to_thread.run_sync(decompress, raw, api.max_body_bytes)
        reservation.grow(len(content))
        return content

    def _refuse_stranger(self, content: bytes) -> UploadResponse | WrongKey | None:
        """Return the answer to a large body that names no known key, before it is parsed."""
        if len(content) <= STRANGER_BYTES:
            return None
        first = None
        for api_key in keys_named(content):
            if self._app_of(api_key):
                return None
            first = first or api_key
        return missing_request_field("api_key") if first is None else WrongKey(first)

    async def _receive(self, api: UploadApi, content: bytes) -> UploadResponse | WrongKey:
        if len(content) <= LARGE_BYTES:
            return await self._receive_parsed(api, parse_request(content), len(content))
        async with self._parsing:  # in a thread, so that the loop answers others meanwhile
            parsed = await anyio.to_thread.run_sync(parse_request, content)
            return await self._receive_parsed(api, parsed, len(content))

    async def _receive_parsed(
        self, api: UploadApi, request: UploadRequest | UploadResponse, size_bytes: int
    ) -> UploadResponse | WrongKey:
        if isinstance(request, UploadResponse):
            return request
        app = self._app_of(request.api_key)
        if app is None:
            return WrongKey(request.api_key)
        return await self._ingest.receive(app.source, api, request.document, size_bytes)

    def _app_of(self, api_key: str) -> UploadApp | None:
        """Return the app of a key; all keys are compared, so that the time reveals nothing."""
        found = None
        for app in self._apps.values():
            is_own = app.upload_keys.admit([api_key])
            found = found or (app if is_own else None)
        return found
