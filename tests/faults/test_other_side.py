"""The other side: whatever a connection does, the outcome is known and everything is retried.

Each line of the tables is a way in which Amplitude, OneSignal, or what stands between, goes wrong.
What is checked of all of them: an outcome in the time a request has, in words that hold no secret,
with memory flat; and that the next request, once the fault is over, is served.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, closing
from pathlib import Path
from time import monotonic

import aiohttp
import anyio
import orjson
import pytest
from yarl import URL

from relay.amplitude.cohorts_api import CohortsApi, CohortsTarget
from relay.amplitude.events_api import EventsApi, UploadTarget
from relay.amplitude.judge import judge_upload
from relay.amplitude.verdicts import Retry, UploadReply
from relay.clock import SystemClock
from relay.errors import ExportNotReady, FileRejected, UpstreamError, UpstreamUnavailable
from relay.onesignal.export_api import ExportApi, ExportTarget
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.onesignal.csv_export import CsvExportStandIn, ExportConditions
from relay.upstream.client import open_session
from tests.faults.connection_faults import CONTENTS, FAULTS
from tests.support.chaos import Certificates, Chaos, chaos, refusing, unanswered
from tests.support.daemons import fast_relay, open_doors, running_daemon
from tests.support.relays import event

AGENT = "relay/test"

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "the-secret-key-of-the-test"
APP_ID = "11111111-2222-4333-8444-555555555555"
USER = "user-who-is-nobody-s-business"
EVENTS = b",".join(
    orjson.dumps({"event_type": "x", "user_id": USER, "insert_id": str(n), "time": 1_767_261_906})
    for n in range(100)
)
TIMEOUT_S = 0.5
SLACK_S = 5.0
"""For a machine that is busy with other things."""

FLAT_BYTES = 80 << 20
"""Room for the longest list of cohorts, while it is read; the endless answers bring far more."""

EACH_FAULT = pytest.mark.parametrize("name", FAULTS)


def _peak_bytes() -> int:
    """Return the peak resident memory since `_begin_measuring`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not tell a peak")


def _begin_measuring() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


@asynccontextmanager
async def _bounded(within_s: float = TIMEOUT_S) -> AsyncIterator[None]:
    """Hold the block to one request timeout and to flat memory."""
    before_bytes, began_s = _begin_measuring(), monotonic()
    yield
    assert monotonic() - began_s < within_s + SLACK_S
    assert _peak_bytes() - before_bytes < FLAT_BYTES


def _says_no_secret(text: str) -> None:
    assert text
    for secret in (KEY, SECRET, USER, "http:", "httpapi", "csv_export", "request_id"):
        assert secret not in text


# Uploads.


def _events_api(session: aiohttp.ClientSession, url: URL) -> EventsApi:
    target = UploadTarget(str(url).rstrip("/"), "httpapi", KEY, TIMEOUT_S, gzip=True)
    return EventsApi(session, target, SystemClock())


def _retry_reason(reply: UploadReply) -> str:
    """Assert that an upload is to be retried; return the reason given."""
    verdict = judge_upload(reply, [])
    assert isinstance(verdict, Retry), verdict
    _says_no_secret(verdict.reason)
    return verdict.reason


@EACH_FAULT
async def test_an_upload_is_retried_when_the_other_side(name: str) -> None:
    """No event is lost or dead-lettered, and no sender blocks past the request timeout."""
    amplitude = AmplitudeStandIn([KEY])
    async with (
        running(amplitude.app()) as url,
        chaos(url) as proxy,
        open_session(AGENT) as session,
    ):
        api = _events_api(session, proxy.url)
        proxy.set(FAULTS[name])
        async with _bounded():
            _retry_reason(await api.upload(EVENTS))
        assert proxy.connections == 1  # aiohttp made one request of it, and followed nowhere
        proxy.set(None)
        assert (await api.upload(EVENTS)).status == 200
        assert set(amplitude.ledger.account(KEY).insert_ids) == {str(n) for n in range(100)}


@pytest.mark.parametrize(
    ("door", "words"),
    [(refusing, "Connection refused"), (unanswered, f"no answer within {TIMEOUT_S:g} s")],
    ids=["takes connections", "answers the first packet"],
)
async def test_an_upload_is_retried_where_nobody(
    door: Callable[[], AbstractContextManager[URL]], words: str
) -> None:
    """The failure is immediate, or takes one request timeout."""
    with door() as url:
        async with open_session(AGENT) as session, _bounded():
            assert _retry_reason(await _events_api(session, url).upload(EVENTS)) == words


async def test_an_upload_is_retried_where_the_name_is_unknown() -> None:
    """Names under .invalid have no address (RFC 6761)."""
    async with open_session(AGENT) as session, _bounded(SLACK_S):
        api = _events_api(session, URL("http://api.amplitude.invalid"))
        reason = _retry_reason(await api.upload(EVENTS))
    assert reason in ("the name of its host is not found", f"no answer within {TIMEOUT_S:g} s")


@pytest.mark.slow
async def test_a_silent_name_server_blocks_only_uploads(tmp_path: Path) -> None:
    """Uploads time out, events are accepted meanwhile, and relay stops on time.

    A lookup cannot be called off: this one takes half a minute. Needs root, for a name server of
    its own.
    """
    config = tmp_path / "resolv.conf"
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.77", 53))
        config.write_text("nameserver 127.0.0.77\noptions timeout:30 attempts:1\n")
        own = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        under = ("unshare", "--mount", "sh", "-c", own, str(config))
        url = "http://api.amplitude.example"
        relay = fast_relay(tmp_path, url, DELIVERY__REQUEST_TIMEOUT_S="1")
        async with running_daemon(relay, under=under) as daemon, open_doors(relay) as doors:
            await daemon.until("relay.ready")
            await doors.post(orjson.dumps([event(1), event(2)]))
            line = await daemon.until("batch.uploaded", 2)
            assert line["failure"] == "no answer within 1 s"
            assert (await doors.post(orjson.dumps(event(3))))[0] == 200
            daemon.terminate()
            assert await daemon.ended(within_s=9) == 0


def _trusted(certificates: Certificates) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, ssl=certificates.trusting())
    return aiohttp.ClientSession(connector=connector)


def _certificates() -> dict[str, Callable[[Certificates], ssl.SSLContext]]:
    return {
        "has expired": lambda made: made.server(days_from_now=-1),
        "is not yet valid": lambda made: made.server(days_from_now=20),
        "is another host's": lambda made: made.server("amplitude.example"),
        "is nobody's we trust": lambda _: Certificates().server(),
    }


@pytest.mark.parametrize("name", _certificates())
async def test_no_upload_is_made_where_the_certificate(name: str) -> None:
    """No byte of an event or a key is sent, and the error says what is wrong."""
    certificates = Certificates()
    amplitude = AmplitudeStandIn([KEY])
    async with (
        running(amplitude.app()) as url,
        chaos(url, tls=_certificates()[name](certificates)) as proxy,
        _trusted(certificates) as session,
        _bounded(),
    ):
        reason = _retry_reason(await _events_api(session, proxy.url).upload(EVENTS))
        assert reason.startswith("its certificate is not accepted: ")
        assert proxy.connections == 0
        assert not amplitude.ledger.requests


async def test_uploads_are_made_where_the_certificate_is_right() -> None:
    """The control: the others fail because of their certificates."""
    certificates = Certificates()
    async with (
        running(AmplitudeStandIn([KEY]).app()) as url,
        chaos(url, tls=certificates.server()) as proxy,
        _trusted(certificates) as session,
    ):
        assert (await _events_api(session, proxy.url).upload(EVENTS)).status == 200


async def test_an_upload_is_retried_where_tls_is_met_by_plain_http() -> None:
    """A proxy on the wrong port."""
    async with (
        running(AmplitudeStandIn([KEY]).app()) as url,
        open_session(AGENT) as session,
        _bounded(),
    ):
        reason = _retry_reason(await _events_api(session, url.with_scheme("https")).upload(EVENTS))
        assert reason == "it does not speak TLS as it should"


# Cohorts.

Ask = Callable[[CohortsApi], Awaitable[object]]


async def _list(api: CohortsApi) -> None:
    await api.list_cohorts()


async def _request(api: CohortsApi) -> None:
    await api.request_export("buyers")


async def _look(api: CohortsApi) -> None:
    await api.is_export_ready("some-export")


async def _usage(api: CohortsApi) -> None:
    if await api.read_usage() is None:
        raise UpstreamUnavailable("not told")


@asynccontextmanager
async def _cohorts() -> AsyncIterator[tuple[CohortsApi, Chaos]]:
    """Yield a cohorts client whose connections pass through a faulty proxy."""
    cohorts = CohortsStandIn({KEY: SECRET})
    cohorts.put(StandInCohort(id="buyers", user_ids=[f"{USER}-{n}" for n in range(20_000)]))
    async with (
        running(cohorts.app()) as url,
        chaos(url) as proxy,
        open_session(AGENT, keeps_alive=False) as session,
    ):
        target = CohortsTarget(str(proxy.url).rstrip("/"), KEY, SECRET, TIMEOUT_S)
        yield CohortsApi(session, target, SystemClock()), proxy


@pytest.mark.slow
@EACH_FAULT
@pytest.mark.parametrize("ask", [_list, _request, _look, _usage])
async def test_a_cohorts_request_fails_when_the_other_side(ask: Ask, name: str) -> None:
    """A malformed response never becomes an empty list or a finished export."""
    async with _cohorts() as (api, proxy):
        proxy.set(FAULTS[name])
        async with _bounded():
            with pytest.raises(UpstreamError) as caught:
                await ask(api)
        assert isinstance(caught.value, UpstreamUnavailable)
        _says_no_secret(str(caught.value))
        proxy.set(None)
        assert [cohort.id for cohort in await api.list_cohorts()] == ["buyers"]


async def _read(api: CohortsApi, request_id: str, at_most_bytes: int = 1 << 20) -> int:
    """Read a file as its reader does, up to the reader's limit; return its bytes."""
    length = 0
    async with api.open_file(request_id) as pieces:
        async for piece in pieces:
            length += len(piece)
            if length > at_most_bytes:
                raise FileRejected("too_long", "the test gives up")
    return length


@pytest.mark.slow
@EACH_FAULT
async def test_a_cohort_s_file_is_whole_or_an_error_when_the_other_side(name: str) -> None:
    """The reader bounds the size; the idle timeout is that of a request."""
    async with _cohorts() as (api, proxy):
        request_id = await api.request_export("buyers")
        with anyio.fail_after(SLACK_S):
            while not await api.is_export_ready(request_id):
                await anyio.sleep(0.02)
        whole_bytes = await _read(api, request_id)
        proxy.set(FAULTS[name])
        async with _bounded(within_s=3 * TIMEOUT_S):
            with anyio.move_on_after(2 * TIMEOUT_S) as scope:
                try:
                    length = await _read(api, request_id)
                    assert name in CONTENTS or length == whole_bytes
                except (UpstreamUnavailable, FileRejected) as error:
                    _says_no_secret(str(error))
            assert not scope.cancelled_caught or "drips" in name  # a run's deadline ends those
        proxy.set(None)
        assert await _read(api, request_id) == whole_bytes


# OneSignal's export.


@pytest.mark.slow
@EACH_FAULT
async def test_an_export_fails_when_the_other_side(name: str) -> None:
    """Requesting and fetching both end in time, without the key or the file's URL."""
    exports = CsvExportStandIn({APP_ID: SECRET})
    exports.conditions = ExportConditions(polls=0)
    exports.put([(f"user-{n}", f"s-{n}", 1, True) for n in range(20_000)])
    async with (
        running(exports.app()) as url,
        chaos(url) as proxy,
        open_session(AGENT, keeps_alive=False) as session,
    ):
        target = ExportTarget(str(proxy.url).rstrip("/"), APP_ID, SECRET, TIMEOUT_S)
        api = ExportApi(session, target)
        proxy.set(FAULTS[name])
        async with _bounded():
            with pytest.raises(UpstreamUnavailable) as caught:
                await api.request_export()
        _says_no_secret(str(caught.value))
        proxy.set(None)
        with anyio.fail_after(SLACK_S):
            link = await _begun(api)
        async with _bounded(within_s=3 * TIMEOUT_S):
            proxy.set(FAULTS[name])
            with anyio.move_on_after(2 * TIMEOUT_S) as scope:
                try:
                    async with api.open_file(link) as pieces:
                        async for _ in pieces:
                            if name in CONTENTS:
                                break
                except (UpstreamUnavailable, FileRejected) as error:
                    _says_no_secret(str(error))
            assert not scope.cancelled_caught or "drips" in name
        proxy.set(None)
        async with api.open_file(link) as pieces:
            assert [piece async for piece in pieces]


async def _begun(api: ExportApi) -> str:
    """Return the URL of an export once no other is running and its file exists."""
    while True:
        try:
            link = await api.request_export()
            async with api.open_file(link):
                return link
        except (ExportNotReady, UpstreamUnavailable):
            await anyio.sleep(0.05)
