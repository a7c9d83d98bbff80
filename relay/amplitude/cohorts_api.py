"""Amplitude's Behavioral Cohorts API on the wire: listing costs nothing, each export is counted.

This module knows URLs, keys and status codes. It repeats no request, except for a file whose link
has expired.

Source: Amplitude, Behavioral Cohorts API (2026), for paths, states and the five requests at once.
"""

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import aiohttp
import anyio
from yarl import URL

from relay.amplitude.cohort_list import Cohort, Usage, read_cohorts, read_usage
from relay.clock import Clock
from relay.errors import (
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnknown,
)
from relay.events.texts import text_of
from relay.upstream.client import (
    REDIRECTS,
    Answer,
    log_safe,
    parse_link,
    parse_retry_after,
    read_body,
    read_file,
    start_download,
    transport_failures,
)

MAX_AT_ONCE: Final = 5

MAX_ANSWER_BYTES: Final = 33_554_432
"""A list of some ten thousand cohorts, with their long definitions."""

MAX_LINKS: Final = 2
"""A link to storage is valid for one minute; the second one is fresh."""

_REGIONS: Final = {"amplitude.com": "us", "analytics.eu.amplitude.com": "eu"}


@dataclass(frozen=True, slots=True)
class CohortsTarget:
    """The project whose cohorts are read, and how to reach it.

    Attributes:
        url: Scheme, host and port.
        api_key: The project's key; a secret.
        secret_key: Its secret key.
        timeout_s: For a whole request; of a file, between two pieces.
    """

    url: str
    api_key: str
    secret_key: str
    timeout_s: float

    def __repr__(self) -> str:
        """Leave the keys out."""
        return f"CohortsTarget({self.url})"


class CohortsApi:
    """Reads the cohorts of one project."""

    def __init__(self, session: aiohttp.ClientSession, target: CohortsTarget, clock: Clock) -> None:
        self._session = session
        self._target = target
        self._clock = clock
        self._slots = anyio.Semaphore(MAX_AT_ONCE)
        pair = f"{target.api_key}:{target.secret_key}".encode()
        encoded = b64encode(pair).decode()
        self._headers = {"Authorization": f"Basic {encoded}"}
        self._secrets = (encoded, target.secret_key, target.api_key)

    async def list_cohorts(self) -> list[Cohort]:
        """Return every cohort the keys can see.

        Raises:
            UpstreamRefused: The keys are not accepted.
            UpstreamUnavailable: Not now.
        """
        problem = "Amplitude did not list the cohorts"
        answer = await self._ask(problem, "/api/3/cohorts")
        if answer.status != HTTPStatus.OK:
            raise self._error(problem, answer)
        return read_cohorts(answer.body)

    async def request_export(self, cohort_id: str) -> str:
        """Ask for a cohort's export, which counts against the month; return its request id.

        Raises:
            UpstreamRefused: The keys or the request are not accepted.
            UpstreamUnknown: There is no such cohort.
            UpstreamUnavailable: Not now, or the limits are used up.
        """
        problem = "Amplitude did not begin the export"
        answer = await self._ask(problem, f"/api/5/cohorts/request/{quote(cohort_id, safe='')}")
        if not answer.is_success:
            raise self._error(problem, answer)
        request_id = text_of(answer.fields().get("request_id"))
        if request_id is None:
            raise UpstreamUnavailable(f"{problem}: its answer names no request.")
        return request_id

    async def is_export_ready(self, request_id: str) -> bool:
        """Return whether an export is done.

        Amplitude has no status for a failed export: it stays in progress for ever.

        Raises:
            UpstreamRefused: The keys are not accepted.
            UpstreamUnknown: There is no such export, or no longer.
            UpstreamUnavailable: It does not say.
        """
        problem = "Amplitude did not tell how the export stands"
        path = f"/api/5/cohorts/request-status/{quote(request_id, safe='')}"
        answer = await self._ask(problem, path)
        if answer.status == HTTPStatus.ACCEPTED:
            return False
        if not answer.is_success:
            raise self._error(problem, answer)
        fields = answer.fields()
        if not fields:
            raise UpstreamUnavailable(f"{problem}: its answer is not the documented JSON.")
        word = text_of(fields.get("async_status")) or ""
        return "INPROGRESS" not in word.upper().replace(" ", "")

    @asynccontextmanager
    async def open_file(self, request_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the file of a finished export: raw pieces of 64 KiB at most, compressed or not.

        Amplitude redirects large files to third-party storage; the keys are not sent there. Reading
        raises `FileRejected` (`truncated`) and `UpstreamUnavailable`.

        Raises:
            UpstreamRefused: The keys are not accepted.
            UpstreamUnknown: There is no such file, or no longer.
            UpstreamUnavailable: Not now.
        """
        problem = "Amplitude did not give the file"
        idle_s = self._target.timeout_s
        async with AsyncExitStack() as stack:
            response = await self._enter_file(stack, request_id, problem)
            yield await stack.enter_async_context(
                aclosing(read_file(response, problem, idle_s=idle_s))
            )

    async def read_usage(self) -> Usage | None:
        """Return Amplitude's own count of downloads, None if it does not say."""
        try:
            answer = await self._ask("Amplitude did not tell its count", "/api/3/cohorts/usage")
        except UpstreamError:
            return None
        return read_usage(answer.body) if answer.status == HTTPStatus.OK else None

    async def _ask(self, problem: str, path: str) -> Answer:
        timeout_s = self._target.timeout_s
        async with self._slots:
            with transport_failures(problem, timeout_s):
                async with self._session.get(
                    self._url(path),
                    headers=self._headers,
                    timeout=aiohttp.ClientTimeout(total=timeout_s),
                    allow_redirects=False,
                ) as response:
                    return await self._read(response)

    async def _enter_file(
        self, stack: AsyncExitStack, request_id: str, problem: str
    ) -> aiohttp.ClientResponse:
        """Open the file at Amplitude or in its storage; the stack closes it."""
        for _ in range(MAX_LINKS):
            own = await self._enter_own(stack, request_id, problem)
            if isinstance(own, aiohttp.ClientResponse):
                return own
            response = await start_download(
                self._session, own, problem, idle_s=self._target.timeout_s
            )
            if response.status == HTTPStatus.OK:
                return await stack.enter_async_context(response)
            # An expired link answers 403 or 404; a fresh one is asked for once.
            response.close()
            if response.status not in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
                detail = f"{problem}: its storage answers with status {response.status}."
                raise UpstreamUnavailable(detail)
        raise UpstreamUnavailable(f"{problem}: the links to its storage have expired.")

    async def _enter_own(
        self, stack: AsyncExitStack, request_id: str, problem: str
    ) -> aiohttp.ClientResponse | URL:
        """Ask Amplitude for the file; return its answer, or the link it redirects to.

        A slot is held as long as Amplitude itself sends: that is one of its parallel requests.
        """
        async with AsyncExitStack() as inner:
            await inner.enter_async_context(self._slots)
            url = self._url(f"/api/5/cohorts/request/{quote(request_id, safe='')}/file")
            idle_s = self._target.timeout_s
            response = await inner.enter_async_context(
                await start_download(
                    self._session, url, problem, idle_s=idle_s, headers=self._headers
                )
            )
            if response.status == HTTPStatus.OK:
                await stack.enter_async_context(inner.pop_all())
                return response
            if response.status not in REDIRECTS:
                with transport_failures(problem, idle_s):
                    raise self._error(problem, await self._read(response))
            link = parse_link(response.headers.get("Location"), base=url)
            if link is None:
                raise UpstreamUnavailable(
                    f"{problem}: it leads to no address that may be followed."
                )
            return link

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        headers, now_s = response.headers, self._clock.now_ms() / 1000
        wait_s = parse_retry_after(headers.get("Retry-After"), headers.get("Date"), now_s=now_s)
        return Answer(response.status, await read_body(response, MAX_ANSWER_BYTES), wait_s)

    def _url(self, path: str) -> URL:
        return URL(self._target.url + path, encoded=True)

    def _error(self, problem: str, answer: Answer) -> UpstreamError:
        """Return the error that an answer without success means."""
        status = answer.status
        said = log_safe(_error_texts(answer.fields()), self._secrets)
        heard = f"{status}, {said}" if said else f"{status}"
        match status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                detail = f"{problem}: it does not accept the keys ({heard}). {self._advice()}"
                return UpstreamRefused(detail)
            case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
                return UpstreamUnknown(f"{problem}: it does not know it, or no longer ({heard}).")
            case HTTPStatus.TOO_MANY_REQUESTS:
                detail = f"{problem}: too many requests, or the month's quota is used up ({heard})."
                return UpstreamBusy(detail, answer.retry_after_s)
            case _ if answer.is_client_error:
                return UpstreamRefused(f"{problem}: it refuses the request ({heard}).")
            case _:
                return UpstreamUnavailable(f"{problem} ({heard}).", answer.retry_after_s)

    def _advice(self) -> str:
        host = URL(self._target.url).host or ""
        region = _REGIONS.get(host)
        here = f"{host} is for AMPLITUDE_REGION={region}" if region else "see AMPLITUDE_REGION"
        return (
            "Either AMPLITUDE_API_KEY and AMPLITUDE_SECRET_KEY are not the pair of one project, "
            f"or the project is in the other region: {here}."
        )


def _error_texts(fields: dict[str, object]) -> list[object]:
    """Return the texts of an error.

    Source: bodies of status 403 seen in public connectors (2026): `error` is an object whose
    `metadata` has the `details`; elsewhere it has a `message`, or is a text itself.
    """
    error = fields.get("error")
    if not isinstance(error, dict):
        return [error]
    metadata = error.get("metadata")
    details = metadata.get("details") if isinstance(metadata, dict) else None
    return [details or error.get("message")]
