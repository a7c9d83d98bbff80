"""`POST /v1/apps/{app}/events`: OneSignal's Event Streams come in here.

An error answer makes OneSignal retry a few times and then switch the stream off, so only
three things are errors: a wrong token, a body past the limits, a store that takes nothing.
"""

from aiohttp import web

from relay.errors import PayloadError
from relay.http.public.webhook import WebhookRequest, WebhookRequests
from relay.ingest.events import EventIngest, Received

_ONE_ACCEPTED = Received(1, 0, 0, 0)


class EventsWebhook:
    """Answers the events hook of every app."""

    def __init__(self, calls: WebhookRequests, reception: EventIngest) -> None:
        self._calls = calls
        self._reception = reception

    async def post(self, app: str, request: web.BaseRequest) -> web.Response:
        """Store the events of a request; 200 says that they are on disk."""
        with self._calls.holding() as hold:
            return _answer(await self._receive(await self._calls.take(app, request, hold)))

    async def _receive(self, call: WebhookRequest) -> Received:
        try:
            body = call.content()
        except PayloadError as error:
            return await self._reception.quarantine(call.source, call.raw, error)
        return await self._reception.receive(call.source, body)


def _answer(received: Received) -> web.Response:
    if received == _ONE_ACCEPTED:
        return web.Response(body=_ACCEPTED_BODY, content_type="application/json")
    return web.Response(body=_encode(received), content_type="application/json")


def _encode(received: Received) -> bytes:
    return b'{"accepted":%d,"duplicate":%d,"filtered":%d,"quarantined":%d}' % (
        received.accepted,
        received.duplicate,
        received.filtered,
        received.quarantined,
    )


_ACCEPTED_BODY = _encode(_ONE_ACCEPTED)
