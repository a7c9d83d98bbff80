"""Exchanges that fail below HTTP: each is temporary, whatever was requested, and leaks nothing.

aioresponses replaces the network. Its release builds responses without the stream
writer that aiohttp 3.14 requires, hence `Answer`.
"""

import ssl
from types import SimpleNamespace

import aiohttp
import pytest
from aioresponses import aioresponses
from yarl import URL

from relay.amplitude.cohorts_api import CohortsApi, CohortsTarget
from relay.clock import SystemClock
from relay.errors import UpstreamUnavailable

TARGET = CohortsTarget("http://amplitude.test", "the-key", "the-secret", 5.0)
ADDRESS = "http://amplitude.test/api/5/cohorts/request"
STORAGE = "http://storage.test/the-signature"
PLACE = aiohttp.client_reqrep.ConnectionKey(
    "amplitude.test",
    80,
    is_ssl=False,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)
FAILURES = pytest.mark.parametrize(
    "failure",
    [
        TimeoutError(),
        aiohttp.ClientConnectorError(PLACE, ConnectionRefusedError(111, "refused")),
        aiohttp.ClientConnectorCertificateError(PLACE, ssl.SSLCertVerificationError("the-key")),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("the-secret"),
        aiohttp.ServerTimeoutError(),
        aiohttp.InvalidURL(STORAGE),
        ConnectionResetError(104, "reset"),
    ],
    ids=lambda failure: type(failure).__name__,
)


class Answer(aiohttp.ClientResponse):
    """A response of aioresponses on aiohttp ≥ 3.14 (its issue 289)."""

    def __init__(self, method: str, url: URL, **options: object) -> None:
        options.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(method, url, **options)  # type: ignore[arg-type]  # passed through


def _check(error: UpstreamUnavailable) -> None:
    assert error.retry_after_s is None
    for secret in ("the-key", "the-secret", "the-signature", "/api/5"):
        assert secret not in str(error)


@FAILURES
async def test_a_broken_transport_is_retried_later(failure: Exception) -> None:
    """The export's state is unknown, even whether it was counted."""
    with aioresponses() as network:
        network.get(f"{ADDRESS}/c1", exception=failure)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(UpstreamUnavailable) as caught:
                await CohortsApi(session, TARGET, SystemClock()).request_export("c1")
    _check(caught.value)


@FAILURES
async def test_broken_storage_is_retried_later(failure: Exception) -> None:
    """The link is a secret, too: it gives access to the members."""
    with aioresponses() as network:
        moved = {"Location": STORAGE}
        network.get(f"{ADDRESS}/r1/file", status=302, headers=moved, response_class=Answer)
        network.get(STORAGE, exception=failure)
        async with aiohttp.ClientSession() as session:
            api = CohortsApi(session, TARGET, SystemClock())
            with pytest.raises(UpstreamUnavailable) as caught:
                await api.open_file("r1").__aenter__()
    _check(caught.value)


async def test_a_response_over_the_same_network_succeeds() -> None:
    """The control: the replaced network is not why the others fail."""
    with aioresponses() as network:
        network.get(f"{ADDRESS}/c1", payload={"request_id": "r1"}, response_class=Answer)
        async with aiohttp.ClientSession() as session:
            api = CohortsApi(session, TARGET, SystemClock())
            assert await api.request_export("c1") == "r1"
