"""Exchanges that fail below HTTP: each is a reply without a status, never an exception.

aioresponses replaces the network. Its release builds responses without the stream
writer that aiohttp 3.14 requires, hence `Answer`.
"""

import ssl
from types import SimpleNamespace

import aiohttp
import pytest
from aioresponses import aioresponses
from yarl import URL

from relay.amplitude.events_api import EventsApi, UploadTarget
from relay.amplitude.judge import judge_upload
from relay.amplitude.verdicts import Retry, Settled, UploadReply
from relay.clock import SystemClock

TARGET = UploadTarget("http://amplitude.test", "httpapi", "the-key", 5.0, gzip=False)
ADDRESS = "http://amplitude.test/2/httpapi"
KEY = aiohttp.client_reqrep.ConnectionKey(
    "amplitude.test",
    80,
    is_ssl=False,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)


class Answer(aiohttp.ClientResponse):
    """A response of aioresponses on aiohttp ≥ 3.14 (its issue 289)."""

    def __init__(self, method: str, url: URL, **options: object) -> None:
        options.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(method, url, **options)  # type: ignore[arg-type]  # passed through


async def _upload(network: aioresponses, **answer: object) -> UploadReply:
    network.post(ADDRESS, response_class=Answer, **answer)
    async with aiohttp.ClientSession() as session:
        return await EventsApi(session, TARGET, SystemClock()).upload(b"{}")


@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError(),
        aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused")),
        aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("the-key")),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("cut"),
        aiohttp.ServerTimeoutError(),
        ConnectionResetError(104, "reset"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_broken_transport_is_retried_later(failure: Exception) -> None:
    """The outcome is unknown, so no event is dead-lettered, and no secret is shown."""
    with aioresponses() as network:
        reply = await _upload(network, exception=failure)
    assert reply.status is None
    assert isinstance(judge_upload(reply, []), Retry)
    assert "the-key" not in reply.failure
    assert "/2/httpapi" not in reply.failure


async def test_a_response_over_the_same_network_succeeds() -> None:
    """The control: the replaced network is not why the others fail."""
    with aioresponses() as network:
        reply = await _upload(network, status=200, body=b'{"code":200}')
    assert (reply.status, reply.body) == (200, b'{"code":200}')
    assert isinstance(judge_upload(reply, []), Settled)
