"""A whole relay inside the test process, between the stand-ins."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
import orjson
import pytest
from yarl import URL

from relay.clock import Clock
from relay.daemon.run import Daemon
from relay.process.systemd import Notifier
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from relay.settings import load_settings

APP_ID = "11111111-2222-4333-8444-555555555555"
TOKEN = "webhook-token-of-the-test"
API_KEY = "0123456789abcdef0123456789abcdef"
COHORT = "7khm89cz"
DEADLINE_S = 20.0

FAST: Mapping[str, str] = {
    "RELAY_OUTBOX__MIN_FREE_BYTES": "0",
    "RELAY_DELIVERY__LINGER_S": "0.01",
    "RELAY_DELIVERY__BACKOFF_BASE_S": "0.02",
    "RELAY_DELIVERY__BACKOFF_CAP_S": "0.05",
    "RELAY_DELIVERY__THROTTLE_HOLD_S": "0.2",
    "RELAY_DELIVERY__HALT_PROBE_S": "0.1",
    "RELAY_DELIVERY__REQUEST_TIMEOUT_S": "0.5",
}


def app_environment(app: str, ingest_url: str, api_key: str = API_KEY) -> dict[str, str]:
    """Return the settings of one app."""
    prefix = f"RELAY_APPS__{app.upper()}__"
    return {
        f"{prefix}ONESIGNAL_APP_ID": APP_ID,
        f"{prefix}WEBHOOK_TOKENS": TOKEN,
        f"{prefix}AMPLITUDE_API_KEY": api_key,
        f"{prefix}AMPLITUDE_INGEST_URL": ingest_url,
    }


@dataclass(frozen=True)
class Response:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever the API answers
        """The body as JSON."""
        return orjson.loads(self.body)


class Relay:
    """A running relay, as its clients see it.

    Attributes:
        public: URL of the public door.
        admin: URL of the admin door.
    """

    def __init__(self, session: aiohttp.ClientSession, public: str, admin: str) -> None:
        self._session = session
        self.public = public
        self.admin = admin

    async def post(
        self,
        body: object,
        *,
        app: str = "shop",
        token: str = TOKEN,
        webhook: str = "events",
        **headers: str,
    ) -> Response:
        """Post to a webhook; `bytes` are sent unchanged."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        url = f"{self.public}/v1/apps/{app}/{webhook}"
        return await self.ask(
            "POST", url, data=data, headers={"Authorization": f"Bearer {token}", **named}
        )

    async def api(self, method: str, path: str, body: object = None) -> Response:
        """Call the admin API."""
        data = None if body is None else orjson.dumps(body)
        return await self.ask(method, f"{self.admin}/api/v1{path}", data=data)

    async def lines(self, path: str) -> list[Any]:
        """Return the objects of an NDJSON response of the admin API."""
        answer = await self.ask(
            "GET", f"{self.admin}/api/v1{path}", headers={"Accept": "application/x-ndjson"}
        )
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
        return [orjson.loads(line) for line in answer.body.splitlines()]

    async def know(self, *external_ids: str, subscribed: bool = True) -> None:
        """Add users to the directory, each with one subscription."""
        for id_ in external_ids:
            subscription = {
                "id": f"subscription-of-{id_}",
                "type": "iOSPush",
                "subscribed": subscribed,
            }
            path = f"/directory/shop/{quote(id_, safe='')}"
            assert (await self.api("PUT", path, {"subscriptions": [subscription]})).status == 204

    async def ask(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send any request."""
        body = None if data is None else BytesIO(data)
        exact = URL(url, encoded=True)
        async with self._session.request(method, exact, data=body, headers=headers) as answer:
            return Response(answer.status, answer.headers, await answer.read())

    async def status(self, app: str = "shop") -> dict[str, Any]:
        """Return an app's status."""
        answer = await self.api("GET", "/status")
        status: dict[str, Any] = answer.json["apps"][app]
        counts = sum(status[name] for name in ("pending", "delivered", "dead", "discarded"))
        assert status["accepted"] == counts
        return status

    async def until(
        self, condition: Callable[[dict[str, Any]], bool], app: str = "shop"
    ) -> dict[str, Any]:
        """Return an app's status once it satisfies a condition."""
        with anyio.fail_after(DEADLINE_S):
            while not condition(status := await self.status(app)):
                await anyio.sleep(0.01)
        return status

    async def settled(self, app: str = "shop") -> dict[str, Any]:
        """Return an app's status once nothing is pending."""
        return await self.until(lambda status: status["pending"] == 0, app)

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return every dead letter."""
        items: list[dict[str, Any]] = (await self.api("GET", "/dead-letters?limit=1000")).json[
            "items"
        ]
        return items


@asynccontextmanager
async def running_relay(
    folder: Path, environment: Mapping[str, str], *, clock: Clock | None = None
) -> AsyncIterator[Relay]:
    """Run a relay while the block runs, then stop it in order."""
    settings = load_settings(
        environ={
            "RELAY_DATA_DIR": str(folder),
            "RELAY_LISTEN": "127.0.0.1:0",
            "RELAY_ADMIN_LISTEN": "127.0.0.1:0",
            **FAST,
            **environment,
        }
    )
    daemon = Daemon(settings, Notifier({}), clock=clock)
    async with aiohttp.ClientSession() as session, anyio.create_task_group() as group:
        with pytest.MonkeyPatch.context() as patch:
            # In memory, all of the ballast would be written with zeros at each start.
            patch.setattr("relay.database.ballast.BALLAST_BYTES", 1 << 20)
            doors = await group.start(daemon.run)
        yield Relay(
            session,
            f"http://127.0.0.1:{doors.public_port}",
            f"http://127.0.0.1:{doors.admin_port}",
        )
        daemon.stop()


@asynccontextmanager
async def relay_and_amplitude(
    folder: Path,
    changes: Mapping[str, str] | None = None,
    *,
    apps: Sequence[str] = ("shop",),
    clock: Clock | None = None,
) -> AsyncIterator[tuple[Relay, AmplitudeStandIn]]:
    """Run Amplitude's stand-in and a relay that delivers to it."""
    amplitude = AmplitudeStandIn([API_KEY, *(f"{API_KEY}-{app}" for app in apps)])
    async with running(amplitude.app()) as url:
        environment: dict[str, str] = {}
        for app in apps:
            key = API_KEY if app == "shop" else f"{API_KEY}-{app}"
            environment |= app_environment(app, str(url).rstrip("/"), key)
        async with running_relay(folder, {**environment, **(changes or {})}, clock=clock) as relay:
            yield relay, amplitude


def event(number: int, *, message: Mapping[str, object] | None = None, **over: object) -> Any:  # noqa: ANN401
    """Return a OneSignal event in relay's own shape; `over` replaces keys of `event`."""
    return {
        "event": {
            "kind": "message.push.clicked",
            "id": f"00000000-0000-4000-8000-{number:012d}",
            "timestamp": "1767261906",
            "datetime": "2026-01-01T10:05:06.412Z",
            "app_id": APP_ID,
            "subscription_device_type": "iOS",
            "subscription_id": f"a3f1c8d2-77b0-4f0b-8a51-{number:012d}",
            "onesignal_id": "c0ffee00-1d1d-4a4a-9c9c-0123456789ab",
            "external_id": f"user-{number}",
            **over,
        },
        "message": {
            "id": "9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01",
            "name": "offer",
            "title": {"en": "Hello", "de": "Hallo"},
            "contents": {"en": "20% off"},
            **(message or {}),
        },
        "user": {"language": "de", "subscription": {"language": "de"}},
    }


def insert_id(number: int) -> str:
    """Return the insert id of `event(number)`."""
    return f"00000000-0000-4000-8000-{number:012d}"


def cohort_message(
    number: int, *users: str, entering: bool = True, computed_at: int = 1_692_206_763
) -> dict[str, object]:
    """Return a message of Amplitude's cohort webhook, in its default payload."""
    return {
        "cohort_name": "Buyers",
        "cohort_id": COHORT,
        "in_cohort": entering,
        "computed_time": str(computed_at),
        "message_id": f"message::{number}",
        "users": [{"user_id": user} for user in users],
    }
