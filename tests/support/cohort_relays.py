"""A whole relay between the stand-ins of the cohort services."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from relay.clock import Clock
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.onesignal.csv_export import CsvExportStandIn
from tests.support.relays import API_KEY, APP_ID, DEADLINE_S, Relay, app_environment, running_relay
from tests.support.segment_tables import SegmentFile

SECRET_KEY = "secret-key-of-the-test"
ONESIGNAL_KEY = "os_v2_app_of_the_test"

FAST_COHORTS: Mapping[str, str] = {
    "RELAY_COHORTS__POLL_INTERVAL_S": "0.05",
    "RELAY_COHORTS__EXPORT_POLL_S": "0.02",
    "RELAY_COHORTS__MONTHLY_DOWNLOADS": "100000",
    "RELAY_DIRECTORY__SYNC_INTERVAL_S": "0",
}


@dataclass(frozen=True)
class World:
    """A relay, the services it talks to, and its folder."""

    relay: Relay
    cohorts: CohortsStandIn
    exports: CsvExportStandIn
    folder: Path

    def look(self, query: str, *parameters: object) -> list[Any]:
        """Query the segment table as another program would."""
        return SegmentFile(self.folder).look(query, *parameters)

    async def until(self, query: str, wanted: Callable[[list[Any]], object]) -> list[Any]:
        """Return the rows of a query once they satisfy a condition."""
        with anyio.fail_after(DEADLINE_S):
            while not wanted(rows := self.look(query)):
                await anyio.sleep(0.01)
        return rows

    async def run(self, state: str, number: int = 1) -> list[Any]:
        """Return the runs of a state once there are this many."""
        query = f"SELECT * FROM cohort_runs WHERE state = '{state}' ORDER BY run_id"
        return await self.until(query, lambda rows: len(rows) >= number)

    async def segments(self) -> dict[str, Any]:
        """Return the segment part of the app's status."""
        status: dict[str, Any] = (await self.relay.api("GET", "/status")).json["segments"]["shop"]
        return status

    async def know(self, **users: list[bool]) -> None:
        """Add known users, each with subscriptions of these flags."""
        for user, flags in users.items():
            subscriptions = [
                {"id": f"{user}/{place}", "type": "iOSPush", "subscribed": flag}
                for place, flag in enumerate(flags)
            ]
            answer = await self.relay.api(
                "PUT", f"/directory/shop/{user}", {"subscriptions": subscriptions}
            )
            assert answer.status == 204


@asynccontextmanager
async def world(
    folder: Path,
    changes: Mapping[str, str] | None = None,
    *,
    cohorts: CohortsStandIn | None = None,
    exports: CsvExportStandIn | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[World]:
    """Run a relay with Amplitude's and OneSignal's stand-ins."""
    own = cohorts or CohortsStandIn({API_KEY: SECRET_KEY})
    exports = exports or CsvExportStandIn({APP_ID: ONESIGNAL_KEY})
    async with running(own.app()) as amplitude, running(exports.app()) as onesignal:
        environment = {
            **app_environment("shop", "http://127.0.0.1:9"),
            **FAST_COHORTS,
            "RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY": SECRET_KEY,
            "RELAY_APPS__SHOP__ONESIGNAL_API_KEY": ONESIGNAL_KEY,
            "RELAY_APPS__SHOP__AMPLITUDE_COHORTS_URL": str(amplitude).rstrip("/"),
            "RELAY_APPS__SHOP__ONESIGNAL_API_URL": str(onesignal).rstrip("/"),
            **(changes or {}),
        }
        async with running_relay(folder, environment, clock=clock) as relay:
            yield World(relay, own, exports, folder)
