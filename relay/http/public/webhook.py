"""What the hooks of an app have in common: who may call them, and when a body is read."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from aiohttp import web

from relay.http.auth import NOBODY, Tokens, presented_tokens
from relay.http.failed_auth import FailedAuthThrottle
from relay.http.responses import unavailable
from relay.http.server.body import BodyReader, check_encoding, decompress
from relay.http.server.body_budget import BodyBudget, Reservation
from relay.ingest.admission import AdmissionControl
from relay.ingest.events import Source

TOKEN_HEADER = "X-Relay-Token"  # noqa: S105  # a header's name


class WebhookApp(Protocol):
    """An app whose webhooks can be called (`relay.daemon.app_runtime`)."""

    @property
    def tokens(self) -> Tokens:
        """What its callers present."""

    @property
    def source(self) -> Source:
        """The app as ingest sees it."""


class AppWebhook(Protocol):
    """One of the hooks that every app has."""

    async def post(self, app: str, request: web.BaseRequest) -> web.Response:
        """Answer a request, whoever sent it, for whatever app."""


class WebhookRequest(NamedTuple):
    """A request of somebody who may call, with its body.

    Attributes:
        source: The app it is for.
        raw: The body as it came.
        is_compressed: Whether that is gzip.
    """

    source: Source
    raw: bytes
    is_compressed: bool

    def content(self) -> bytes:
        """Return the body, decompressed.

        Raises:
            PayloadError: If it cannot be.
            web.HTTPRequestEntityTooLarge: If it is larger than a body may be.
        """
        return decompress(self.raw) if self.is_compressed else self.raw


class WebhookRequests:
    """Lets in who presents one of an app's tokens, and only then reads the body."""

    def __init__(
        self,
        apps: Mapping[str, WebhookApp],
        admission: AdmissionControl,
        bodies: BodyReader,
        attempts: FailedAuthThrottle,
    ) -> None:
        self._apps = apps
        self._admission = admission
        self._bodies = bodies
        self._attempts = attempts
        self._held = BodyBudget()

    def holding(self) -> Reservation:
        """Return what holds the body of one request: a `with` block around its answer."""
        return self._held.holding()

    async def take(self, app: str, request: web.BaseRequest, hold: Reservation) -> WebhookRequest:
        """Return what a request brings.

        Args:
            app: The app it is for, as it says.
            request: The request.
            hold: Holds its body.

        Raises:
            web.HTTPUnauthorized: For a wrong token and an unknown app alike.
            web.HTTPServiceUnavailable: While nothing is taken, or too much at once.
            web.HTTPException: If the body cannot be read.
        """
        source = await self._authenticate(app, request)
        if closed := self._admission.unavailable_reason:
            raise unavailable(closed)
        is_compressed = check_encoding(request)
        return WebhookRequest(source, await self._bodies.read(request, hold=hold), is_compressed)

    async def _authenticate(self, app: str, request: web.BaseRequest) -> Source:
        known = self._apps.get(app)
        tokens = known.tokens if known else NOBODY
        presented = presented_tokens(request, TOKEN_HEADER)
        # An unknown app takes as long to refuse as a wrong token, so that names cannot be probed.
        is_admitted = tokens.admit(presented)
        if known and is_admitted:
            return known.source
        if presented:
            await self._attempts.slow(request.remote)
        raise web.HTTPUnauthorized(text="wrong or missing token")
