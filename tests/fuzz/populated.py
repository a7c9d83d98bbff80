"""A relay with one of everything that the admin API can show or change."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from relay.sandbox.amplitude.conditions import Conditions, Poison
from tests.support.relays import Relay, cohort_message, event, insert_id, relay_and_amplitude

ADMIN_TOKEN: Final = "admin-token-of-the-test"
USERS: Final = ("anna", "ben", "cleo", "dora", "with/slash", "ünï%20")
POISONED: Final = frozenset({insert_id(1), insert_id(2), insert_id(3)})
CHANGES: Final = {
    "RELAY_ADMIN_TOKEN": ADMIN_TOKEN,
    "RELAY_COHORTS__GUARD_MIN_MEMBERS": "2",
    "RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY": "secret-key-of-the-test",
    "RELAY_APPS__SHOP__AMPLITUDE_COHORTS_URL": "http://127.0.0.1:9",
}


@asynccontextmanager
async def populated_relay(folder: Path) -> AsyncIterator[Relay]:
    """Run a relay with events, dead letters, quarantined bodies, a segment and a held run."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with (
        relay_and_amplitude(folder, CHANGES) as (anybodys, amplitude),
        aiohttp.ClientSession(headers=headers) as session,
    ):
        relay = Relay(session, anybodys.public, anybodys.admin)
        amplitude.conditions = Conditions(poisons=(Poison(insert_ids=POISONED),))
        await relay.post([event(number) for number in range(1, 20)])
        for spoilt in (b"not JSON", b"\xff\xfe", {"event": {"kind": "message.smoke.sent"}}):
            await relay.post(spoilt)
        await relay.know(*USERS)
        users = (*USERS, "stranger", "NA", "")
        await relay.post(cohort_message(1, *users), webhook="cohorts")
        leaving = cohort_message(2, *USERS[:3], entering=False, computed_at=1_692_207_000)
        assert (await relay.post(leaving, webhook="cohorts")).json["held"]
        await relay.settled()
        yield relay
