"""Asks one host of a service whether it knows a key, by requests that change nothing there.

Amplitude is sent an upload without events: there is nothing in it that could be stored. A host
that asks for events before it looks at the key gets one without a type or an id, which is refused
according to its documentation. OneSignal is asked to list one segment. A key is never part of an
answer.

Source: Amplitude, HTTP V2 API, answers with status 400 (2026): a wrong key gives an `error` that
begins with `Invalid API key`.
Source: OneSignal, "View segments" and "Keys & IDs" (2026): a list takes `limit`; keys that begin
with `os_v2_` go with the scheme `Key`, older ones with `Basic`. A key of another app, or of an
organisation, is denied access; only some plans have the list, and saying so takes a good key.
"""

from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

import aiohttp
import orjson

from relay.amplitude.cohorts_api import CohortsApi, CohortsTarget
from relay.amplitude.judge import BAD_KEY
from relay.clock import SystemClock
from relay.errors import UpstreamError, UpstreamRefused
from relay.upstream.client import describe_failure

TIMEOUT_S: Final = 10.0

NEW_KEY: Final = "os_v2_"

DENIALS: Final = ("Access denied", "header of Authorization")
NOT_IN_PLAN: Final = "on your plan"

EMPTY_UPLOADS: Final[tuple[list[object], ...]] = ([], [{}])

EXCHANGED: Final = "API key and secret key stand in each other's place"


class Knowledge(Enum):
    """What a host said of a key."""

    KNOWN = auto()
    UNKNOWN = auto()
    UNCLEAR = auto()


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """The answer of one host.

    Attributes:
        knowledge: Whether it knows the key.
        detail: Why that is unclear; of an unknown key, the likely mistake.
    """

    knowledge: Knowledge
    detail: str = ""


ASKS_FOR_EVENTS: Final = KeyAnswer(Knowledge.UNCLEAR, "does not look at a key without events")


async def ask_for_key(session: aiohttp.ClientSession, api_key: str, url: str) -> KeyAnswer:
    """Ask one host whether it knows a key."""
    answer = ASKS_FOR_EVENTS
    try:
        for events in EMPTY_UPLOADS:
            body = orjson.dumps({"api_key": api_key, "events": events})
            async with session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                answer = judge_amplitude_answer(response.status, await response.read())
            if answer != ASKS_FOR_EVENTS:
                break
    except TimeoutError:
        return KeyAnswer(Knowledge.UNCLEAR, f"no answer within {TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return KeyAnswer(Knowledge.UNCLEAR, f"not reached: {describe_failure(error)}")
    return answer


def inconclusive(status: int, kind: str = "without a word on the key") -> KeyAnswer:
    """Return what an answer says that is not about the key.

    Args:
        status: The answer's status.
        kind: What is wrong with the answer, where the status explains nothing.
    """
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            detail = f"takes no more requests now ({status}); ask again later"
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            detail = f"cannot answer now ({status}); ask again later"
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            detail = f"sends us elsewhere ({status}); is the address right?"
        case HTTPStatus.NOT_FOUND:
            detail = f"does not know what was asked for ({status}); is the address right?"
        case _:
            detail = f"answered {status} {kind}"
    return KeyAnswer(Knowledge.UNCLEAR, detail)


def judge_amplitude_answer(status: int, raw: bytes) -> KeyAnswer:
    """Return what an answer to an upload without events says of the key."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        return inconclusive(status, "without JSON")
    if status == 400 and str(body.get("error")).startswith(BAD_KEY):  # noqa: PLR2004
        return KeyAnswer(Knowledge.UNKNOWN)
    if status == 400 and body.get("missing_field") == "events":  # noqa: PLR2004
        return ASKS_FOR_EVENTS
    if status not in (200, 400) or body.get("code") != status:
        return inconclusive(status)
    return KeyAnswer(Knowledge.KNOWN)


async def ask_for_pair(
    session: aiohttp.ClientSession, api_key: str, secret_key: str, origin: str
) -> KeyAnswer:
    """Ask a host whether a secret key fits its API key: only then it lists cohorts.

    A pair that it does not know is tried the other way round, as people paste it so.
    """
    answer = await _ask_for_list(session, api_key, secret_key, origin)
    if answer.knowledge is Knowledge.UNKNOWN:
        exchanged = await _ask_for_list(session, secret_key, api_key, origin)
        if exchanged.knowledge is Knowledge.KNOWN:
            return KeyAnswer(Knowledge.UNKNOWN, EXCHANGED)
    return answer


async def _ask_for_list(
    session: aiohttp.ClientSession, api_key: str, secret_key: str, origin: str
) -> KeyAnswer:
    target = CohortsTarget(url=origin, api_key=api_key, secret_key=secret_key, timeout_s=TIMEOUT_S)
    try:
        await CohortsApi(session, target, SystemClock()).list_cohorts()
    except UpstreamRefused:
        return KeyAnswer(Knowledge.UNKNOWN)
    except UpstreamError as error:
        return KeyAnswer(Knowledge.UNCLEAR, str(error).rstrip("."))
    return KeyAnswer(Knowledge.KNOWN)


async def ask_for_onesignal_key(
    session: aiohttp.ClientSession, app_id: str, api_key: str, origin: str
) -> KeyAnswer:
    """Ask a host whether a key opens an app."""
    scheme = "Key" if api_key.startswith(NEW_KEY) else "Basic"
    try:
        async with session.get(
            f"{origin}/apps/{app_id}/segments",
            params={"limit": "1"},
            headers={"Authorization": f"{scheme} {api_key}"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            allow_redirects=False,
        ) as response:
            return judge_onesignal_answer(response.status, await response.read())
    except TimeoutError:
        return KeyAnswer(Knowledge.UNCLEAR, f"no answer within {TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return KeyAnswer(Knowledge.UNCLEAR, f"not reached: {describe_failure(error)}")


def judge_onesignal_answer(status: int, raw: bytes) -> KeyAnswer:
    """Return what an answer to the question for a segment says of the key."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return inconclusive(status, "without JSON")
    if not isinstance(body, dict):
        return inconclusive(status)
    if status in (HTTPStatus.OK, HTTPStatus.CREATED) and "segments" in body:
        return KeyAnswer(Knowledge.KNOWN)
    complaint = orjson.dumps(body.get("errors")).decode()  # a text, a list or an object
    if status == HTTPStatus.UNAUTHORIZED or any(denial in complaint for denial in DENIALS):
        return KeyAnswer(Knowledge.UNKNOWN)
    if status == HTTPStatus.FORBIDDEN and NOT_IN_PLAN in complaint:
        return KeyAnswer(Knowledge.KNOWN)
    return inconclusive(status)
