"""`POST /v1/apps/{app}/cohorts`: Amplitude's cohort webhook comes in here.

Amplitude sends again whatever is not answered 200 within a second or two, so an answer waits for
nothing but the disk. Its customers can reshape the payload: what is not understood is kept, and
the error says why to whoever reads it there.

Source: Amplitude, Cohort Webhooks (2026).
"""

from aiohttp import web

from relay.cohorts.webhook import CohortWebhook
from relay.errors import PayloadError
from relay.http.public.webhook import WebhookRequest, WebhookRequests
from relay.http.responses import json_response
from relay.segments.webhook import MessageAnswer


class CohortsWebhook:
    """Answers the cohorts hook of every app."""

    def __init__(self, calls: WebhookRequests, reception: CohortWebhook) -> None:
        self._calls = calls
        self._reception = reception

    async def post(self, app: str, request: web.BaseRequest) -> web.Response:
        """Apply a message; 200 says that the segment has changed, on disk and for readers."""
        with self._calls.holding() as hold:
            call = await self._calls.take(app, request, hold)
            try:
                taken = await self._receive(call)
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

    async def _receive(self, call: WebhookRequest) -> MessageAnswer:
        app = call.source.app
        try:
            body = call.content()
        except PayloadError as error:
            await self._reception.refuse(app, call.raw, error)
            raise
        return await self._reception.receive(app, body)
