"""The two doors of a running daemon: what they are made of, opened and closed in order."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from relay.daemon.policies import plain
from relay.daemon.runtime import Runtime
from relay.http.admin.app import admin_app
from relay.http.admin.context import AdminContext
from relay.http.auth import FailedAuthThrottle, Tokens, throttle_policy_for
from relay.http.health import HealthAnswers
from relay.http.public.app import PublicDoor
from relay.http.public.uploads import Uploads
from relay.http.public.webhooks import CohortsWebhook, EventsWebhook, WebhookRequests
from relay.http.server.body import BodyReader
from relay.http.server.connections import Connections, share_descriptors
from relay.http.server.listener import InFlightRequests, app_runner, open_door, plain_runner
from relay.http.server.tls import Certificate, Certificates
from relay.observability.metrics import Metrics
from relay.process.limits import descriptor_limit
from relay.settings import Settings


class Servers:
    """The public and the admin door.

    Attributes:
        certificates: Of both doors.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Prepare the doors; nothing is open yet.

        Raises:
            ConfigError: If a certificate cannot be used.
        """
        self._settings = settings
        self._metrics = metrics
        self.certificates = Certificates(
            _certificate("RELAY_TLS", settings.tls_cert_file, settings.tls_key_file),
            _certificate(
                "RELAY_ADMIN_TLS", settings.admin_tls_cert_file, settings.admin_tls_key_file
            ),
        )
        self._public_limit, self._admin_limit = share_descriptors(descriptor_limit())
        self._throttle = FailedAuthThrottle(throttle_policy_for(self._public_limit))
        self._public_bodies = BodyReader()
        self._admin_bodies = BodyReader(invites=False)
        self._admin_requests = InFlightRequests()
        self._admin_tokens = Tokens([])
        self._ends_s = inf
        self.reconfigure(settings)

    def start(self, group: TaskGroup) -> None:
        """Start what the doors need besides their sockets."""
        group.start_soon(self._throttle.run, name="failed-auth throttle")

    def reconfigure(self, settings: Settings) -> None:
        """Let in, from now on, those who present the token of these settings."""
        token = settings.admin_token
        self._admin_tokens.renew([plain(token)] if token else [])

    def stop(self, ends_s: float) -> None:
        """Bring requests to their end; those of the admin door get until `ends_s`."""
        self._ends_s = ends_s
        self._admin_bodies.stop()
        self._throttle.stop()

    def open_public(self, runtime: Runtime) -> AbstractAsyncContextManager[int]:
        """Serve the public door and yield its port; at the end every request is answered.

        Raises:
            DoorBlocked: If its address cannot be listened on.
        """
        requests = WebhookRequests(
            runtime.apps, runtime.admission, self._public_bodies, self._throttle
        )
        uploads = Uploads(
            runtime.apps,
            runtime.upload_ingest,
            runtime.admission,
            self._public_bodies,
            self._throttle,
        )
        door = PublicDoor(
            runtime.apps,
            {
                "events": EventsWebhook(requests, runtime.event_ingest),
                "cohorts": CohortsWebhook(requests, runtime.cohort_webhook),
            },
            HealthAnswers(runtime.health).routes | uploads.routes,
            self._public_bodies,
            self._metrics,
            runtime.shared.clock,
        )
        runner = plain_runner(door.answer, Connections(self._public_limit))
        tls = self.certificates.public_tls
        return open_door(runner, self._settings.listen, tls=tls, drain=door.drain)

    @asynccontextmanager
    async def open_admin(self, runtime: Runtime) -> AsyncIterator[int]:
        """Serve the admin door and yield its port.

        Raises:
            DoorBlocked: If its address cannot be listened on.
        """
        shared = runtime.shared
        context = AdminContext(
            apps=runtime.apps,
            clock=shared.clock,
            outbox=shared.outbox,
            segments=shared.segments,
            importer=shared.importer,
            event_ingest=runtime.event_ingest,
            cohort_webhook=runtime.cohort_webhook,
            status=runtime.status,
            health=runtime.health,
            metrics=self._metrics,
        )
        app = admin_app(
            context,
            self._admin_bodies,
            self._admin_requests,
            self._throttle,
            tokens=self._admin_tokens,
        )
        runner = app_runner(app, Connections(self._admin_limit))
        tls = self.certificates.admin_tls
        async with open_door(
            runner, self._settings.admin_listen, tls=tls, drain=self._drain_admin
        ) as port:
            yield port

    async def _drain_admin(self) -> None:
        """Wait for the admin door's requests, as long as there is time for them."""
        with anyio.CancelScope(deadline=self._ends_s):
            await self._admin_requests.drain()


def _certificate(variables: str, cert: Path | None, key: Path | None) -> Certificate | None:
    return Certificate(variables, cert, key) if cert and key else None
