"""The stand-in of Amplitude's cohorts API over real sockets."""

import csv
import gzip
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import orjson
import pytest
from aiohttp import (
    ClientConnectionError,
    ClientPayloadError,
    ClientSession,
    encode_basic_auth,
)
from yarl import URL

from relay.sandbox.cohorts.files import AWKWARD_VALUE, FileShape, UserRange
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.common.replies import JsonObject
from tests.support.clocks import START_MS, FakeClock

KEYS = {"key-1": "secret-1", "key-2": "secret-2"}
AUTH = encode_basic_auth("key-1", "secret-1")
DAY_S = 86_400


@dataclass(frozen=True)
class Response:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> JsonObject:
        """The body as JSON."""
        read = orjson.loads(self.body)
        assert isinstance(read, dict)
        return read

    @property
    def details(self) -> object:
        """What an object error says."""
        error = self.json["error"]
        assert isinstance(error, dict)
        assert error["http_code"] == self.status
        return error["metadata"]["details"]

    @property
    def plain(self) -> bytes:
        """The body without its compression, if it has one."""
        return gzip.decompress(self.body) if self.body[:2] == b"\x1f\x8b" else self.body

    @property
    def rows(self) -> list[list[str]]:
        """The rows of a file."""
        return list(csv.reader(io.StringIO(self.plain.decode("utf-8-sig"), newline="")))


@dataclass
class Bench:
    """A stand-in, a session to it, and its clock."""

    stand_in: CohortsStandIn
    session: ClientSession
    url: URL
    clock: FakeClock

    async def get(self, path: str, auth: str | None = AUTH) -> Response:
        """Send a GET without following redirects or decompressing."""
        url = URL(path) if path.startswith("http") else self.url.join(URL(path))
        headers = {} if auth is None else {"Authorization": auth}
        async with self.session.get(url, headers=headers, allow_redirects=False) as response:
            return Response(response.status, response.headers, await response.read())

    async def export(self, cohort_id: str = "c", auth: str = AUTH) -> str:
        """Request an export and return its id."""
        got = await self.get(f"/api/5/cohorts/request/{cohort_id}", auth)
        assert got.status == 202
        return str(got.json["request_id"])

    async def poll(self, request_id: str) -> Response:
        """Return the state of an export."""
        return await self.get(f"/api/5/cohorts/request-status/{request_id}")

    async def file(self, cohort_id: str = "c") -> Response:
        """Return the response to a request for the file of a new export."""
        request_id = await self.export(cohort_id)
        assert (await self.poll(request_id)).status == 202
        assert (await self.poll(request_id)).status == 200
        return await self.get(f"/api/5/cohorts/request/{request_id}/file")


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Run a stand-in for the duration of a test."""
    clock = FakeClock()
    stand_in = CohortsStandIn(KEYS, clock=clock)
    with anyio.fail_after(10):
        async with (
            running(stand_in.app()) as url,
            ClientSession(auto_decompress=False) as session,
        ):
            yield Bench(stand_in, session, url, clock)


async def test_the_list_shows_what_is_published() -> None:
    """The whole object, times in seconds; what is hidden does not exist."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c", name="Paying", user_ids=["a", "b"], empty_ids=3))
        b.stand_in.put(StandInCohort(id="secret", published=False))
        got = await b.get("/api/3/cohorts")
        (cohort,) = orjson.loads(got.body)["cohorts"]
        assert (cohort["id"], cohort["name"], cohort["size"]) == ("c", "Paying", 5)
        assert cohort["lastComputed"] == cohort["lastMod"] == START_MS // 1000
        assert len(cohort) == 26
        assert "syncMetadata" not in cohort
        got = await b.get("/api/3/cohorts?includeSyncInfo=true")
        assert b'"syncMetadata":[]' in got.body
        assert (await b.get("/api/5/cohorts/request/secret")).details == "Cohort not found"


async def test_a_cohort_that_is_put_again_is_computed_later() -> None:
    """A change within one second shows in the list; the definition stays."""
    async with bench() as b:
        first = b.stand_in.put(StandInCohort(id="c", user_ids=["a", "b"]))
        second = b.stand_in.change("c", add=["z"], remove=["a"])
        assert second.user_ids == ("b", "z")
        assert first.last_computed_s is not None
        assert second.last_computed_s == first.last_computed_s + 1
        assert second.last_mod_s == first.last_mod_s
        b.stand_in.remove("c")
        assert (await b.get("/api/3/cohorts")).json == {"cohorts": []}


@pytest.mark.parametrize(
    ("auth", "status", "details"),
    [
        (encode_basic_auth("key-1", "secret-2"), 403, "Invalid API/Secret Key combination"),
        (encode_basic_auth("key-3", "secret-1"), 403, "Invalid API Key"),
        ("Bearer token", 401, "Authorization is missing"),
        ("Basic ???", 401, "Authorization is missing"),
        (None, 401, "Authorization is missing"),
    ],
)
async def test_wrong_keys_are_rejected(auth: str | None, status: int, details: str) -> None:
    """In both spellings that were seen."""
    async with bench() as b:
        for path in ("/api/3/cohorts", "/api/5/cohorts/request/c", "/api/3/cohorts/usage"):
            got = await b.get(path, auth)
            assert (got.status, got.details) == (status, details)
        got_at_last = b.stand_in.requests[-1]
        assert (got_at_last.operation, got_at_last.status, got_at_last.account) == (
            "usage",
            status,
            "",
        )


async def test_projects_are_apart() -> None:
    """Neither sees the cohorts, exports or limits of the other."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"), api_key="key-2")
        second = encode_basic_auth("key-2", "secret-2")
        assert (await b.get("/api/5/cohorts/request/c")).status == 404
        request_id = await b.export(auth=second)
        assert (await b.poll(request_id)).details == "Request not found"
        assert b.stand_in.project("key-1").meter.in_month(START_MS) == 0
        assert b.stand_in.downloads_this_month == 1


async def test_an_export_is_a_snapshot() -> None:
    """Later members are not in the file."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c", user_ids=["a", 'o"b'], empty_ids=1))
        request_id = await b.export()
        b.stand_in.change("c", add=["late"])
        assert (await b.poll(request_id)).json["async_status"] == "JOB INPROGRESS"
        assert (await b.poll(request_id)).json["async_status"] == "JOB COMPLETED"
        got = await b.get(f"/api/5/cohorts/request/{request_id}/file")
        assert (got.status, got.headers["Content-Encoding"]) == (200, "gzip")
        assert got.rows == [
            ["amplitude_id", "user_id"],
            ["356896327775", "a"],
            ["356896327776", ""],
            ["356896327777", 'o"b'],
        ]
        asked = [(call.operation, call.cohort_id, call.status) for call in b.stand_in.requests]
        assert asked == [
            ("request", "c", 202),
            ("status", "c", 202),
            ("status", "c", 200),
            ("file", "c", 200),
        ]


async def test_an_export_takes_its_time() -> None:
    """No file before it is ready; an export that never ends never has one."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"))
        b.stand_in.put(StandInCohort(id="stuck", never_completes=True))
        b.stand_in.conditions.job.seconds = 30
        running_id, stuck_id = await b.export(), await b.export("stuck")
        for _ in range(3):
            assert (await b.poll(running_id)).status == 202
        assert (await b.get(f"/api/5/cohorts/request/{running_id}/file")).status == 404
        b.clock.advance(30)
        assert (await b.poll(running_id)).status == 200
        assert (await b.poll(stuck_id)).status == 202


async def test_exports_expire() -> None:
    """After a week they are unknown."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"))
        b.stand_in.conditions.job.polls = 0
        request_id = await b.export()
        b.clock.advance(7 * DAY_S - 1)
        assert (await b.get(f"/api/5/cohorts/request/{request_id}/file")).status == 200
        b.clock.advance(1)
        assert (await b.get(f"/api/5/cohorts/request/{request_id}/file")).status == 404
        assert (await b.poll(request_id)).status == 404
        assert (await b.get("/api/5/cohorts/other")).details == "Not found"


async def test_large_files_come_by_a_link_that_is_the_credential() -> None:
    """On a second origin, for a minute, and never with the secret key."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c", user_ids=UserRange("user-", 0, 1_000)))
        got = await b.file()
        link = got.headers["Location"]
        assert (got.status, got.body) == (302, b"")
        assert URL(link).origin() != b.url.origin()
        leak = await b.get(link)
        assert (leak.status, leak.headers["Content-Type"]) == (400, "application/xml")
        assert len((await b.get(link, None)).rows) == 1_001
        forged = await b.get(link[:-1] + "_", None)
        assert (forged.status, b"SignatureDoesNotMatch" in forged.body) == (403, True)
        b.clock.advance(60)
        expired = await b.get(link, None)
        assert (expired.status, b"<Code>AccessDenied</Code>" in expired.body) == (403, True)
        links = [call for call in b.stand_in.requests if call.operation == "link"]
        assert [call.status for call in links] == [400, 200, 403, 403]
        assert [call.has_credentials for call in links] == [True, False, False, False]


async def test_a_million_members_are_streamed() -> None:
    """They need no list, and the file is generated in pieces."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c", user_ids=UserRange("user-", 0, 1_000_000)))
        got = await b.file()
        lines = 0
        async with b.session.get(got.headers["Location"]) as response:
            async for piece in _gunzip(response.content.iter_any()):
                lines += piece.count(b"\n")
        assert lines == 1_000_001


async def _gunzip(packed: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    import zlib  # noqa: PLC0415 - only here

    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for piece in packed:
        yield unpacker.decompress(piece)
    assert unpacker.eof


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        (FileShape(columns=("user_id", "amplitude_id")), [["user_id", "amplitude_id"], ["a", "1"]]),
        (FileShape(tabs=True), [["\tamplitude_id", "\tuser_id"], ["\t1", "\ta"]]),
        (FileShape(columns=("plan", "user_id")), [["plan", "user_id"], [AWKWARD_VALUE, "a"]]),
        (FileShape(columns=("amplitude_id",)), [["amplitude_id"], ["1"]]),
        (FileShape(columns=("group_value",)), [["group_value"], [AWKWARD_VALUE]]),
        (FileShape(max_rows=0), [["amplitude_id", "user_id"]]),
        (FileShape(encoding="plain"), [["amplitude_id", "user_id"], ["1", "a"]]),
        (FileShape(encoding="gzip_unlabelled"), [["amplitude_id", "user_id"], ["1", "a"]]),
        (FileShape(line_end="\r\n"), [["amplitude_id", "user_id"], ["1", "a"]]),
        (FileShape(has_bom=True), [["amplitude_id", "user_id"], ["1", "a"]]),
        (FileShape(content="empty"), []),
    ],
)
async def test_files_have_many_shapes(shape: FileShape, rows: list[list[str]]) -> None:
    """Everything a reader has been seen to meet, and what it must reject."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c", user_ids=["a"]))
        b.stand_in.conditions.shape = shape
        got = await b.file()
        numbered = [[cell.replace("356896327775", "1") for cell in row] for row in got.rows]
        assert numbered == rows
        assert ("Content-Encoding" in got.headers) == (shape.encoding == "gzip")
        assert got.plain.startswith(b"\xef\xbb\xbf") == shape.has_bom
        assert (b"\r\n" in got.plain) == (shape.line_end == "\r\n")


@pytest.mark.parametrize("content", ["html", "json"])
async def test_something_else_may_come_instead_of_a_file(content: str) -> None:
    """A proxy's page, or an error with status 200."""
    async with bench() as b:
        shape = FileShape.model_validate({"content": content, "encoding": "plain"})
        b.stand_in.put(StandInCohort(id="c", shape=shape))
        assert (await b.file()).body[:1] in b"<{"


@pytest.mark.parametrize("encoding", ["gzip", "plain"])
@pytest.mark.parametrize("cut", ["row", "line"])
async def test_a_cut_table_is_transferred_completely(cut: str, encoding: str) -> None:
    """Only the missing rows show it."""
    async with bench() as b:
        shape = FileShape.model_validate({"cut": cut, "encoding": encoding})
        b.stand_in.put(StandInCohort(id="c", user_ids=UserRange("u", 0, 100), shape=shape))
        got = await b.file()
        assert 40 < got.plain.count(b"\n") < 60
        assert got.plain.endswith(b"\n") == (cut == "line")


async def test_a_cut_gzip_has_no_end() -> None:
    """The transfer is complete, the compressed data is not."""
    async with bench() as b:
        shape = FileShape(cut="gzip")
        b.stand_in.put(StandInCohort(id="c", user_ids=["a"], shape=shape))
        got = await b.file()
        with pytest.raises(EOFError):
            gzip.decompress(got.body)


@pytest.mark.parametrize("cut", ["length", "chunked"])
async def test_a_transfer_may_break(cut: str) -> None:
    """With an announced length, and without."""
    async with bench() as b:
        shape = FileShape.model_validate({"cut": cut})
        b.stand_in.put(StandInCohort(id="c", user_ids=["a"], shape=shape))
        with pytest.raises(ClientPayloadError):
            await b.file()


async def test_limits_are_kept() -> None:
    """Of the month, the window and parallel exports; a rejected request is free."""
    async with bench() as b:
        limits = b.stand_in.conditions.limits
        b.stand_in.put(StandInCohort(id="c"))
        for _ in range(4):
            await b.export()
        parallel = await b.get("/api/5/cohorts/request/c")
        assert (parallel.status, "4 parallel" in str(parallel.details)) == (429, True)
        b.stand_in.conditions.job.polls = 0
        limits.per_window = 5
        await b.export()
        window = await b.get("/api/5/cohorts/request/c")
        assert (window.status, "5 requests in 600 s" in str(window.details)) == (429, True)
        b.clock.advance(600)
        b.stand_in.spend(limits.per_month - 6)
        await b.export()
        month = await b.get("/api/5/cohorts/request/c")
        assert (month.status, "Monthly limit of 500" in str(month.details)) == (429, True)
        assert b.stand_in.downloads_this_month == 500
        b.clock.advance(31 * DAY_S)
        await b.export()


async def test_only_some_requests_are_accepted_at_once() -> None:
    """A sixth is rejected while five are in flight."""
    async with bench() as b:
        for _ in range(5):
            b.stand_in.faults.add("slow", operation="list", count=1, delay_s=100)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(b.get, "/api/3/cohorts")
            while b.stand_in.project().meter.unanswered < 5:
                await anyio.lowlevel.checkpoint()
            got = await b.get("/api/3/cohorts")
            assert (got.status, "5 concurrent" in str(got.details)) == (429, True)
            b.stand_in.faults.clear()
        assert (await b.get("/api/3/cohorts")).status == 200
        assert b.stand_in.project().meter.most_unanswered == 6


async def test_usage_is_optional_and_has_two_shapes() -> None:
    """No client may rely on it."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"))
        await b.export()
        assert (await b.get("/api/3/cohorts/usage")).status == 404
        b.stand_in.conditions.usage = "nested"
        assert (await b.get("/api/3/cohorts/usage")).json == {
            "rest_download": {"limit": 500, "usage": 1, "resets_at": "2026-02-01T00:00:00Z"}
        }
        b.stand_in.conditions.usage = "flat"
        assert (await b.get("/api/3/cohorts/usage")).json == {"limit": 500, "count": 1}


async def test_faults_meet_their_operation() -> None:
    """The given number of times, with the header, before anything is counted."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"))
        b.stand_in.faults.add(429, operation="request", count=2, retry_after=7)
        assert (await b.get("/api/3/cohorts")).status == 200
        got = await b.get("/api/5/cohorts/request/c")
        assert (got.status, got.headers["Retry-After"]) == (429, "7")
        assert got.details == "Too many requests"
        assert (await b.get("/api/5/cohorts/request/c")).status == 429
        assert b.stand_in.downloads_this_month == 0
        await b.export()


async def test_a_stored_fault_counts() -> None:
    """The export exists and is counted; only the response is lost."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"))
        b.stand_in.faults.add("504", operation="request", count=1, stored=True)
        got = await b.get("/api/5/cohorts/request/c")
        assert (got.status, got.headers["Content-Type"]) == (504, "text/html")
        assert b.stand_in.downloads_this_month == 1


@pytest.mark.parametrize(
    ("name", "body", "status", "start"),
    [
        ("200_html", "usual", 200, b"<html>"),
        ("200_empty", "usual", 200, b""),
        ("200_garbage", "usual", 200, b"\x00\xff"),
        ("500", "usual", 500, b'{"error":{'),
        ("403", "html", 403, b"<html>"),
        ("401", "empty", 401, b""),
    ],
)
async def test_strange_answers(name: str, body: str, status: int, start: bytes) -> None:
    """Proxies' pages, nothing, garbage."""
    async with bench() as b:
        b.stand_in.faults.add("500", count=1)
        b.stand_in.faults.add(name, body=body)
        assert (await b.get("/api/3/cohorts")).status == 500
        got = await b.get("/api/3/cohorts")
        assert (got.status, got.body[: len(start) or None]) == (status, start)


async def test_a_fault_of_the_storage_speaks_xml() -> None:
    """The link's host is another service."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"))
        b.stand_in.conditions.delivery = "link"
        link = (await b.file()).headers["Location"]
        b.stand_in.faults.add("500", operation="link", cohort_id="c", count=1)
        got = await b.get(link, None)
        assert (got.status, b"<Code>InternalError</Code>" in got.body) == (500, True)
        assert (await b.get(link, None)).status == 200


async def test_faults_below_http() -> None:
    """A reset (which aiohttp's client meets twice), a late response, and one that drips."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c", user_ids=UserRange("user-", 0, 50)))
        b.stand_in.conditions.shape = FileShape(encoding="plain")
        b.stand_in.faults.add("reset", operation="list", count=2)
        with pytest.raises(ClientConnectionError):
            await b.get("/api/3/cohorts")
        b.stand_in.faults.add("slow", operation="list", count=1, delay_s=0.01)
        assert (await b.get("/api/3/cohorts")).status == 200
        b.stand_in.faults.add("drip", operation="file", count=1, delay_s=0.001)
        assert len((await b.file()).rows) == 51
        b.stand_in.faults.add("drip", operation="list", count=1, delay_s=0.001)
        assert (await b.get("/api/3/cohorts")).json["cohorts"]
        assert [c.fault for c in b.stand_in.requests if c.fault] == [
            *("reset", "reset", "slow", "drip", "drip")
        ]


async def test_reset_forgets_what_happened() -> None:
    """The cohorts stay."""
    async with bench() as b:
        b.stand_in.put(StandInCohort(id="c"))
        await b.export()
        b.stand_in.conditions.usage = "flat"
        b.stand_in.faults.add("500")
        b.stand_in.reset()
        assert b.stand_in.downloads_this_month == 0
        assert not b.stand_in.requests
        assert (await b.get("/api/3/cohorts/usage")).status == 404
        assert "c" in b.stand_in.project().cohorts
