"""The object storage of large files: a second origin with pre-signed links.

A link is the credential. A request with other credentials is refused, as S3 does, and
would be a leak of the secret key.

Source: Amazon S3 on pre-signed requests; Amplitude Behavioral Cohorts API reference, 2026-11.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from secrets import token_hex

from aiohttp import web
from yarl import URL

from relay.clock import Clock
from relay.sandbox.cohorts.conditions import CohortConditions
from relay.sandbox.common.listener import Listener
from relay.sandbox.common.replies import Download, Reply, storage_error
from relay.sandbox.common.responder import ApiStandIn


@dataclass(frozen=True, slots=True)
class SignedLink:
    """One link.

    Attributes:
        file: What it leads to.
        account: API key of the project.
        cohort_id: The cohort of the file.
        ends_at: When it stops working, in UTC epoch milliseconds.
    """

    file: Download
    account: str
    cohort_id: str
    ends_at: int


class ObjectStorage:
    """Keeps links and serves their files, on a port of its own."""

    def __init__(
        self, stand_in: ApiStandIn[CohortConditions], clock: Clock, host: str, port: int
    ) -> None:
        self._stand_in = stand_in
        self._clock = clock
        self._host = host
        self._port = port
        self._links: dict[str, SignedLink] = {}
        self._origin: URL | None = None

    async def serve(self, _app: web.Application) -> AsyncIterator[None]:
        """Listen as long as the application whose `cleanup_ctx` this belongs to."""
        app = web.Application()
        app.router.add_get("/{key:.*}", self._get, allow_head=False)
        async with Listener(app, self._host, self._port) as listener:
            self._origin = listener.url
            yield
        self._origin = None

    def sign(self, link: SignedLink, seen_host: str | None) -> str:
        """Return the URL of a new link, on the host by which the caller reached the API.

        Raises:
            RuntimeError: If the storage is not open.
        """
        if self._origin is None:
            raise RuntimeError("the storage is not open: mount the stand-in")
        now_ms = self._clock.now_ms()
        # Expired links go when a new one comes, so that a long run keeps only a few.
        self._links = {key: kept for key, kept in self._links.items() if kept.ends_at > now_ms}
        signature = token_hex(32)
        self._links[signature] = link
        path = f"/cohort-exports/{link.cohort_id}.csv"
        query = {
            "X-Amz-Expires": str((link.ends_at - now_ms) // 1000),
            "X-Amz-Signature": signature,
        }
        return str(self._origin.with_host(seen_host or self._host).with_path(path) % query)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        link = self._links.get(request.query.get("X-Amz-Signature", ""))
        account, cohort_id = ("", "") if link is None else (link.account, link.cohort_id)
        call = self._stand_in.log(request, "link", account, cohort_id)

        def decide() -> Reply:
            if call.has_credentials:
                return storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
            if link is None:
                return storage_error(403, "SignatureDoesNotMatch")
            if self._clock.now_ms() >= link.ends_at:
                return storage_error(403, "AccessDenied", "Request has expired")
            return link.file

        return await self._stand_in.complete(request, call, decide, storage_error)
