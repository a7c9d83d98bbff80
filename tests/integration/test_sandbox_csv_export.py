"""The stand-in of OneSignal's CSV export over real sockets."""

import csv
import gzip
import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import orjson
import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, ClientTimeout
from yarl import URL

from relay.sandbox.common.listener import running
from relay.sandbox.onesignal.csv_export import CsvExportStandIn, ExportConditions
from relay.sandbox.onesignal.export_files import COLUMNS, ExportShape, Subscriber, SubscriberRange
from tests.support.clocks import FakeClock

APP = "11111111-2222-4333-8444-555555555555"
ROWS = [
    Subscriber("user-1", "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001", 0),
    Subscriber("user-1", "b7c2d9e3-1111-4222-9333-444455556602", 11, is_subscribed=False),
    Subscriber(None, "c8d3eaf4-2222-4333-a444-555566667703", 14),
    Subscriber('zoë, "x"', "d9e4fb05-2222-4333-a444-555566667704"),
]


@dataclass
class Bench:
    """A stand-in, a session to it, and its clock."""

    stand_in: CsvExportStandIn
    session: ClientSession
    url: URL
    clock: FakeClock

    async def ask(
        self, body: object = None, auth: str | None = "Key key-1", app_id: str = APP
    ) -> tuple[int, Any]:
        """Request an export and return status and JSON."""
        query = f"?app_id={app_id}" if app_id else ""
        headers = {} if auth is None else {"Authorization": auth}
        url = self.url.join(URL(f"/players/csv_export{query}"))
        async with self.session.post(url, json=body or {}, headers=headers) as response:
            return response.status, orjson.loads(await response.read())

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Request a file."""
        async with self.session.get(url, headers=headers) as response:
            return response.status, await response.read()

    async def export(self, *extra_fields: str, **order: object) -> list[dict[str, str]]:
        """Return the rows of a new export."""
        _, answer = await self.ask({"extra_fields": extra_fields, **order})
        assert (await self.get(answer["csv_file_url"]))[0] == 404
        status, body = await self.get(answer["csv_file_url"])
        assert status == 200
        text = gzip.decompress(body).decode()
        return list(csv.DictReader(io.StringIO(text, newline="")))


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Run a stand-in for the duration of a test."""
    clock = FakeClock()
    stand_in = CsvExportStandIn({APP: "key-1", "other-app": "key-2"}, clock=clock)
    stand_in.put(ROWS)
    with anyio.fail_after(10):
        async with running(stand_in.app()) as url, ClientSession() as session:
            yield Bench(stand_in, session, url, clock)


async def test_the_file_has_one_row_per_subscription() -> None:
    """Documented columns first, then requested ones, quoted as documented."""
    async with bench() as b:
        extra = ("external_user_id", "onesignal_id", "notification_types", "country")
        rows = await b.export(*extra)
        assert tuple(rows[0]) == (*COLUMNS, *extra)
        assert [row["external_user_id"] for row in rows] == ["user-1", "user-1", "", 'zoë, "x"']
        assert [row["id"] for row in rows] == [row.subscription_id for row in ROWS]
        assert [row["device_type"] for row in rows] == ["0", "11", "14", "1"]
        assert [row["invalid_identifier"] for row in rows] == ["f", "t", "f", "f"]
        assert [row["notification_types"] for row in rows] == ["1", "-2", "1", "1"]
        assert rows[0]["onesignal_id"] == rows[1]["onesignal_id"] != rows[2]["onesignal_id"]
        assert re.fullmatch("[0-9a-f]{64}", rows[0]["identifier"])
        assert rows[1]["identifier"].endswith("@example.com")
        assert rows[2]["identifier"].startswith("+1555")
        assert orjson.loads(rows[0]["tags"]) == {"plan": "pro, yearly"}
        assert rows[0]["device_model"] == "iPhone15,2"
        assert rows[0]["last_active"] == "2026-01-01 10:05:06"


async def test_an_export_is_a_snapshot() -> None:
    """Later subscriptions are not in it."""
    async with bench() as b:
        _, answer = await b.ask()
        b.stand_in.put([])
        await b.get(answer["csv_file_url"])
        _, body = await b.get(answer["csv_file_url"])
        assert gzip.decompress(body).count(b"\n") == 5
        assert await b.export() == []


async def test_a_segment_is_its_subscribed_part() -> None:
    """Unless the others are requested."""
    async with bench() as b:
        assert len(await b.export(segment_name="All")) == 3
        assert len(await b.export(segment_name="All", include_unsubscribed=True)) == 4


@pytest.mark.parametrize("auth", ["Key key-1", "key key-1", "Basic key-1"])
async def test_keys_come_in_three_spellings(auth: str) -> None:
    """Old keys and new ones."""
    async with bench() as b:
        status, answer = await b.ask(auth=auth)
        pattern = rf"{b.url.origin()}/csv_exports/{APP}/users_[0-9a-f]{{32}}_2026-01-01\.csv\.gz"
        assert status == 200
        assert re.fullmatch(pattern, answer["csv_file_url"])


@pytest.mark.parametrize(
    ("auth", "app_id", "status", "start"),
    [
        ("Key key-2", APP, 403, "Access denied.  Please include"),
        ("Bearer key-1", APP, 403, "Access denied.  Please include"),
        ("Key key-1", "nobody", 403, "Access denied.  Please include"),
        ("Key key-1", "", 400, "Request is malformed: Failed to parse app_id"),
    ],
)
async def test_wrong_keys_and_apps_are_rejected(
    auth: str, app_id: str, status: int, start: str
) -> None:
    """With the text of the live service."""
    async with bench() as b:
        got, answer = await b.ask(auth=auth, app_id=app_id)
        assert (got, answer["errors"][0][: len(start)]) == (status, start)


@pytest.mark.parametrize("status", [401, 403, 400])
async def test_a_missing_key_has_three_answers(status: int) -> None:
    """One of each generation of the API."""
    async with bench() as b:
        b.stand_in.conditions = ExportConditions.model_validate({"missing_key_status": status})
        got, answer = await b.ask(auth=None)
        first = answer["errors"][0]
        told = first["code"] if status == 401 else first
        assert got == status
        assert told.startswith(
            {401: "auth-1", 403: "Access denied.  ", 400: "Please include a case-sensitive"}[status]
        )


async def test_unknown_fields_are_rejected() -> None:
    """A misspelt extra field would be a missing column."""
    async with bench() as b:
        assert (await b.ask({"extra_fields": ["external_id"]}))[0] == 400
        assert (await b.ask({"last_active_since": 5}))[0] == 400


async def test_one_export_at_a_time() -> None:
    """Another one must wait until the first is ready or dropped."""
    async with bench() as b:
        b.stand_in.conditions.seconds = 300
        _, first = await b.ask()
        status, answer = await b.ask(auth="Key key-2", app_id="other-app")
        assert status == 400
        assert answer["errors"][0].startswith("User already running another CSV export.")
        b.clock.advance(300)
        await b.get(first["csv_file_url"])
        assert (await b.ask())[0] == 200
        b.stand_in.conditions.never_ready = True
        assert (await b.ask())[0] == 400
        b.clock.advance(600)
        assert (await b.ask())[0] == 200
        assert [call.status for call in b.stand_in.requests] == [200, 400, 404, 200, 400, 200]


async def test_a_file_is_not_ready_at_first_and_gone_at_last() -> None:
    """Both with XML; a request with a key is a leak."""
    async with bench() as b:
        b.stand_in.conditions = ExportConditions(not_ready_status=403, polls=2)
        _, answer = await b.ask()
        url = answer["csv_file_url"]
        for _ in range(2):
            status, body = await b.get(url)
            assert (status, b"<Code>NoSuchKey</Code>" in body) == (403, True)
        assert (await b.get(url))[0] == 200
        assert (await b.get(url, {"Authorization": "Key key-1"}))[0] == 400
        assert b.stand_in.requests[-1].has_credentials
        b.clock.advance(3 * 86_400)
        assert (await b.get(url))[0] == 404
        assert (await b.get(url.replace("users_", "users_0")))[0] == 404


async def test_a_response_may_lack_the_url() -> None:
    """Then no export is running."""
    async with bench() as b:
        b.stand_in.conditions.without_url = 1
        assert await b.ask() == (200, {})
        assert "csv_file_url" in (await b.ask())[1]


@pytest.mark.parametrize(
    ("shape", "start"),
    [
        (ExportShape(columns=("tags", "badge_count", "id")), b"tags,badge_count,id\n"),
        (ExportShape(max_rows=0), ",".join((*COLUMNS, "country\n")).encode()),
        (ExportShape(content="html"), b"<!DOCTYPE html>"),
        (ExportShape(content="empty"), b""),
    ],
)
async def test_files_have_many_shapes(shape: ExportShape, start: bytes) -> None:
    """Shapes of older files, and what must be rejected."""
    async with bench() as b:
        b.stand_in.conditions = ExportConditions(polls=0, shape=shape)
        _, answer = await b.ask({"extra_fields": ["country"]})
        _, body = await b.get(answer["csv_file_url"])
        plain = gzip.decompress(body)
        assert plain[: len(start) or None] == start


async def test_times_may_be_numbers() -> None:
    """Seconds since the epoch, as in some files."""
    async with bench() as b:
        b.stand_in.conditions.shape = ExportShape(times="unix", tags="")
        row = (await b.export())[0]
        assert (row["created_at"], row["tags"]) == ("1740902400", "")


async def test_a_file_may_be_cut() -> None:
    """In its data, or in its transfer."""
    async with bench() as b:
        b.stand_in.conditions = ExportConditions(polls=0, shape=ExportShape(cut="gzip"))
        _, answer = await b.ask()
        _, body = await b.get(answer["csv_file_url"])
        with pytest.raises(EOFError):
            gzip.decompress(body)
        b.stand_in.conditions.shape = ExportShape(cut="length")
        _, answer = await b.ask()
        with pytest.raises(ClientPayloadError):
            await b.get(answer["csv_file_url"])


async def test_faults_speak_onesignals_language() -> None:
    """A list of texts at the API, XML for the file; a hang ends at the timeout."""
    async with bench() as b:
        b.stand_in.conditions.polls = 0
        b.stand_in.faults.add(503, operation="export", count=1)
        assert await b.ask() == (503, {"errors": ["Service temporarily unavailable"]})
        b.stand_in.faults.add("429", operation="export", count=1, retry_after=3)
        assert await b.ask() == (429, {"errors": ["API rate limit exceeded."]})
        _, answer = await b.ask()
        b.stand_in.faults.add("500", operation="csv", count=1)
        status, body = await b.get(answer["csv_file_url"])
        assert (status, body[:5]) == (500, b"<?xml")
        b.stand_in.faults.add("hang", operation="csv", count=1)
        with pytest.raises(TimeoutError):
            await b.session.get(answer["csv_file_url"], timeout=ClientTimeout(0.05))


async def test_hanging_requests_end_when_faults_are_cleared() -> None:
    """Their clients have lost interest."""
    async with bench() as b:
        b.stand_in.faults.add("hang", operation="export")

        async def ask() -> None:
            with pytest.raises(ClientConnectionError):
                await b.ask()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not b.stand_in.requests:
                await anyio.lowlevel.checkpoint()
            b.stand_in.faults.clear()


async def test_many_rows_are_streamed() -> None:
    """A range needs no list."""
    async with bench() as b:
        b.stand_in.put(SubscriberRange("user-", 0, 100_000, email_every=2, unsubscribed_every=4))
        assert b.stand_in.count(APP) == 150_000
        rows = await b.export("external_user_id")
        assert len({row["id"] for row in rows}) == len(rows) == 150_000
        assert sum(row["invalid_identifier"] == "t" for row in rows) == 25_000


async def test_reset_forgets_what_happened() -> None:
    """The subscriptions stay."""
    async with bench() as b:
        b.stand_in.faults.add("500")
        b.stand_in.conditions.seconds = 5
        await b.ask()
        b.stand_in.reset()
        assert len(await b.export()) == 4
