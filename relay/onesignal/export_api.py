"""OneSignal's CSV export of subscriptions on the wire: asked for, then fetched.

The address of the file is a secret, as it needs no key. It never appears in a text.

Source: OneSignal, "CSV export" and "Keys & IDs" (2026), and clients in public code for what these
pages leave out.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from math import inf
from typing import Final

import aiohttp
from yarl import URL

from relay.errors import (
    ExportBusy,
    ExportNotReady,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnknown,
)
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

EXTRA_FIELDS: Final = ("external_user_id", "notification_types")

MAX_ANSWER_BYTES: Final = 1_048_576

NEW_KEY_PREFIX: Final = "os_v2_"

_BUSY: Final = "already running"
_NO_KEY: Final = "case-sensitive header"


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """The app whose subscriptions are exported, and how to reach it.

    Attributes:
        url: Scheme, host and port.
        app_id: OneSignal's id of the app.
        api_key: The app's key; a secret.
        timeout_s: For a whole request; of a file, between two pieces.
    """

    url: str
    app_id: str
    api_key: str
    timeout_s: float

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"ExportTarget({self.url}, {self.app_id})"


class ExportApi:
    """Exports the subscriptions of one app."""

    def __init__(self, session: aiohttp.ClientSession, target: ExportTarget) -> None:
        self._session = session
        self._target = target
        self._url = URL(target.url + "/players/csv_export").with_query(app_id=target.app_id)
        scheme = "Key" if target.api_key.startswith(NEW_KEY_PREFIX) else "Basic"
        self._headers = {"Authorization": f"{scheme} {target.api_key}"}

    async def request_export(self) -> str:
        """Ask for a file of all subscriptions; return its address, which is a secret.

        Raises:
            ExportBusy: Another export is under way.
            UpstreamRefused: The key or the request is not accepted.
            UpstreamUnknown: There is no such app.
            UpstreamUnavailable: Not now.
        """
        problem = "OneSignal did not begin the export"
        answer = await self._ask(problem)
        if not answer.is_success:
            raise self._error(problem, answer)
        url = answer.fields().get("csv_file_url")
        if not isinstance(url, str) or parse_link(url, base=self._url) is None:
            raise UpstreamUnavailable(f"{problem}: its answer names no file.")
        return url

    @asynccontextmanager
    async def open_file(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the file at an address of `request_export`: raw pieces of 64 KiB at most.

        No credentials are sent. Reading raises `FileRejected` (`truncated`) and
        `UpstreamUnavailable`.

        Raises:
            ExportNotReady: It is not made yet, or was deleted.
            UpstreamUnavailable: Not now.
        """
        problem = "OneSignal did not give the file"
        async with AsyncExitStack() as stack:
            response = await self._enter_file(stack, url, problem)
            yield await stack.enter_async_context(
                aclosing(read_file(response, problem, idle_s=self._target.timeout_s))
            )

    async def _ask(self, problem: str) -> Answer:
        timeout_s = self._target.timeout_s
        with transport_failures(problem, timeout_s):
            async with self._session.post(
                self._url,
                json={"extra_fields": EXTRA_FIELDS},
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as response:
                value, date = (response.headers.get(name) for name in ("Retry-After", "Date"))
                # Documented in seconds; a date is used only against the answer's own `Date`.
                wait_s = parse_retry_after(value, date, now_s=inf)
                body = await read_body(response, MAX_ANSWER_BYTES)
                return Answer(response.status, body, wait_s)

    async def _enter_file(
        self, stack: AsyncExitStack, url: str, problem: str
    ) -> aiohttp.ClientResponse:
        """Open the file at an address, or where that redirects; the stack closes it."""
        link = parse_link(url, base=self._url)
        for _ in range(2):
            if link is None:
                break
            response = await stack.enter_async_context(
                await start_download(self._session, link, problem, idle_s=self._target.timeout_s)
            )
            if response.status == HTTPStatus.OK:
                return response
            if response.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
                raise ExportNotReady(f"{problem}: it is not there yet ({response.status}).")
            if response.status not in REDIRECTS:
                raise UpstreamUnavailable(f"{problem} ({response.status}).")
            link = parse_link(response.headers.get("Location"), base=link)
        raise UpstreamUnavailable(f"{problem}: it leads to no address that may be followed.")

    def _error(self, problem: str, answer: Answer) -> UpstreamError:
        """Return the error that an answer without success means."""
        status = answer.status
        said = log_safe(_error_texts(answer.fields()), (self._target.api_key,))
        heard = f"{status}, {said}" if said else f"{status}"
        if _BUSY in said.lower():
            return ExportBusy(f"{problem}: another one is under way.", answer.retry_after_s)
        if _NO_KEY in said or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return UpstreamRefused(
                f"{problem}: it does not accept the key ({heard}). ONESIGNAL_API_KEY has to be an "
                "App API key of the app ONESIGNAL_APP_ID, and allow this machine's address."
            )
        match status:
            case HTTPStatus.NOT_FOUND:
                return UpstreamUnknown(f"{problem}: it does not know the app ({heard}).")
            case HTTPStatus.TOO_MANY_REQUESTS:
                return UpstreamUnavailable(f"{problem}: too many requests.", answer.retry_after_s)
            case _ if answer.is_client_error:
                return UpstreamRefused(f"{problem}: it refuses the request ({heard}).")
            case _:
                return UpstreamUnavailable(f"{problem} ({heard}).", answer.retry_after_s)


def _error_texts(fields: dict[str, object]) -> list[object]:
    """Return the texts of an error.

    Source: OneSignal's Python SDK (2026) warns of `errors` as a list of texts, a list of objects
    with a `title`, a text, and an object.
    """
    errors = fields.get("errors")
    if isinstance(errors, dict):
        errors = list(errors.values())
    if not isinstance(errors, list):
        return [errors]
    return [error.get("title") if isinstance(error, dict) else error for error in errors]
