"""`POST /v1/apps/{app}/events`: OneSignal's Event Streams come in here.

An error answer makes OneSignal retry a few times and then switch the stream off, so only
three things are errors: a wrong token, a body past the limits, a store that takes nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiohttp import web

from relay.admission import Admission
from relay.doors.bodies import Bodies, check_encoding, decompress
from relay.doors.door import unavailable
from relay.doors.tokens import NOBODY, Tokens, presented_tokens
from relay.errors import PayloadError
from relay.reception import Received, Reception, Source

TOKEN_HEADER = "X-Relay-Token"  # noqa: S105  # a header's name
_ONE_ACCEPTED = Received(1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Hook:
    """An app's hook: who may call it, and what its events become."""

    tokens: Tokens
    source: Source


class EventsHook:
    """Answers the events hook of every app."""

    def __init__(
        self,
        hooks: Mapping[str, Hook],
        reception: Reception,
        admission: Admission,
        bodies: Bodies,
    ) -> None:
        self._hooks = hooks
        self._reception = reception
        self._admission = admission
        self._bodies = bodies

    @property
    def apps(self) -> Collection[str]:
        """The apps that have a hook."""
        return self._hooks.keys()

    async def post(self, app: str, request: web.BaseRequest) -> web.Response:
        """Store the events of a request; 200 says that they are on disk."""
        source = self._authenticate(app, request)
        if closed := self._admission.refusal:
            raise unavailable(closed)
        is_compressed = check_encoding(request)
        body = await self._bodies.read(request)
        return _answer(await self._receive(source, body, is_compressed=is_compressed))

    def _authenticate(self, app: str, request: web.BaseRequest) -> Source:
        hook = self._hooks.get(app)
        tokens = hook.tokens if hook else NOBODY
        is_admitted = tokens.admit(presented_tokens(request, TOKEN_HEADER))
        if not hook or not is_admitted:
            raise web.HTTPUnauthorized(text="wrong or missing token")
        return hook.source

    async def _receive(self, source: Source, body: bytes, *, is_compressed: bool) -> Received:
        if is_compressed:
            try:
                body = decompress(body)
            except PayloadError as error:
                return await self._reception.refuse(source, body, error)
        return await self._reception.receive(source, body)


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
