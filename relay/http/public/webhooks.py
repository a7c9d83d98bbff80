"""`POST /v1/apps/{app}/events` and `…/cohorts`: OneSignal's and Amplitude's webhooks.

An error answer makes OneSignal retry a few times and then switch the stream off, so the events
webhook never answers with one for what a body contains: only for a wrong token, for a transfer that
fails or exceeds the limits, and while the store takes nothing.
Amplitude repeats whatever is not answered 200 within a second or two, so the cohorts webhook waits
for nothing but the disk; its payload can be reshaped by the customer, so what is not understood is
kept in quarantine and the answer says why.

Source: OneSignal, Event Streams (2026); Amplitude, Cohort Webhooks (2026).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from aiohttp import web

from relay.cohorts.webhook import CohortWebhook
from relay.errors import PayloadError
from relay.http.auth import NOBODY, FailedAuthThrottle, Tokens, presented_tokens
from relay.http.responses import json_response, unavailable
from relay.http.server.body import BodyBudget, BodyReader, Reservation, check_encoding, decompress
from relay.ingest.admission import AdmissionControl
from relay.ingest.events import EventIngest, Received, Source
from relay.segments.webhook import MessageAnswer

TOKEN_HEADER: Final = "X-Relay-Token"  # noqa: S105  # a header's name

_ONE_ACCEPTED: Final = Received(1, 0, 0, 0)


class WebhookApp(Protocol):
    """An app whose webhooks can be called (`relay.daemon.app_runtime`)."""

    @property
    def tokens(self) -> Tokens:
        """Secrets its callers present."""

    @property
    def source(self) -> Source:
        """The app as ingest sees it."""


class Webhook(Protocol):
    """One of the webhooks that every app has."""

    async def post(self, app: str, request: web.BaseRequest) -> web.Response:
        """Answer a request for an app that may not exist, from anyone."""


class WebhookRequest(NamedTuple):
    """An authenticated request with its body.

    Attributes:
        source: The app it is for.
        raw: The body as received.
        is_compressed: Whether that is gzip.
    """

    source: Source
    raw: bytes
    is_compressed: bool

    def content(self) -> bytes:
        """Return the body, decompressed.

        Raises:
            PayloadError: If it cannot be decompressed.
            web.HTTPRequestEntityTooLarge: If its content is larger than a body may be.
        """
        return decompress(self.raw) if self.is_compressed else self.raw


class WebhookRequests:
    """Authenticates requests; reads the body only of those that present one of the app's tokens."""

    def __init__(
        self,
        apps: Mapping[str, WebhookApp],
        admission: AdmissionControl,
        bodies: BodyReader,
        throttle: FailedAuthThrottle,
    ) -> None:
        self._apps = apps
        self._admission = admission
        self._bodies = bodies
        self._throttle = throttle
        self._budget = BodyBudget()

    def reserve(self) -> Reservation:
        """Return the body reservation of one request: a `with` block around its answer."""
        return self._budget.reserve()

    async def read(
        self, app: str, request: web.BaseRequest, reservation: Reservation
    ) -> WebhookRequest:
        """Authenticate a request and read its body.

        Args:
            app: The app it names.
            request: The request.
            reservation: Of its body.

        Raises:
            web.HTTPUnauthorized: For a wrong token and an unknown app alike.
            web.HTTPServiceUnavailable: While nothing is taken, or too much arrives at once.
            web.HTTPException: If the body cannot be read.
        """
        source = await self._authenticate(app, request)
        if reason := self._admission.unavailable_reason:
            raise unavailable(reason)
        is_compressed = check_encoding(request)
        raw = await self._bodies.read(request, reservation=reservation)
        return WebhookRequest(source, raw, is_compressed)

    async def _authenticate(self, app: str, request: web.BaseRequest) -> Source:
        known = self._apps.get(app)
        tokens = known.tokens if known else NOBODY
        presented = presented_tokens(request, TOKEN_HEADER)
        # An unknown app takes as long to refuse as a wrong token, so that names cannot be probed.
        is_admitted = tokens.admit(presented)
        if known and is_admitted:
            return known.source
        if presented:
            await self._throttle.slow(request.remote)
        raise web.HTTPUnauthorized(text="wrong or missing token")


class EventsWebhook:
    """Answers every app's events webhook."""

    def __init__(self, requests: WebhookRequests, ingest: EventIngest) -> None:
        self._requests = requests
        self._ingest = ingest

    async def post(self, app: str, request: web.BaseRequest) -> web.Response:
        """Store the events of a request; 200 means that they are on disk."""
        with self._requests.reserve() as reservation:
            received = await self._ingest_request(
                await self._requests.read(app, request, reservation)
            )
        # One accepted event a request is the usual case: its answer is made once.
        body = _ACCEPTED_BODY if received == _ONE_ACCEPTED else _encode(received)
        return web.Response(body=body, content_type="application/json")

    async def _ingest_request(self, request: WebhookRequest) -> Received:
        try:
            body = request.content()
        except PayloadError as error:
            return await self._ingest.quarantine(request.source, request.raw, error)
        return await self._ingest.receive(request.source, body)


class CohortsWebhook:
    """Answers every app's cohorts webhook."""

    def __init__(self, requests: WebhookRequests, webhook: CohortWebhook) -> None:
        self._requests = requests
        self._webhook = webhook

    async def post(self, app: str, request: web.BaseRequest) -> web.Response:
        """Apply a message; 200 means that it is on disk; the body says what it did."""
        with self._requests.reserve() as reservation:
            try:
                taken = await self._apply(await self._requests.read(app, request, reservation))
            except PayloadError as error:
                raise web.HTTPUnprocessableEntity(text=error.detail) from error
        return json_response(
            {
                "added": taken.added,
                "removed": taken.removed,
                "duplicate": taken.is_duplicate,
                "held": taken.is_held,
            }
        )

    async def _apply(self, request: WebhookRequest) -> MessageAnswer:
        app = request.source.app
        try:
            body = request.content()
        except PayloadError as error:
            await self._webhook.quarantine(app, request.raw, error)
            raise
        return await self._webhook.receive(app, body)


def _encode(received: Received) -> bytes:
    return b'{"accepted":%d,"duplicate":%d,"filtered":%d,"quarantined":%d}' % (
        received.accepted,
        received.duplicate,
        received.filtered,
        received.quarantined,
    )


_ACCEPTED_BODY: Final = _encode(_ONE_ACCEPTED)
