"""Asks Amplitude whether it knows a key, without sending it an event.

The question is an upload without events: there is nothing in it that could be stored. A
service that asks for events before it looks at the key gets one without a type or an id,
which its papers say is refused. Keys are never part of what is found.

Source: Amplitude, HTTP V2 API, its answers with status 400 (2026): a wrong key gives an
`error` that begins with `Invalid API key`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Final

import aiohttp
import orjson

from relay.amplitude.judge import BAD_KEY
from relay.upstream.client import describe_failure

TIMEOUT_S: Final = 10.0

EMPTY_UPLOADS: Final[tuple[list[object], ...]] = ([], [{}])


class Knowledge(Enum):
    """What a host said of a key."""

    KNOWN = auto()
    UNKNOWN = auto()
    UNSAID = auto()


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """The answer of one host.

    Attributes:
        knowledge: Whether it knows the key.
        detail: Why it did not say, if it did not; of an unknown key, what else is known.
    """

    knowledge: Knowledge
    detail: str = ""


ASKS_FOR_EVENTS: Final = KeyAnswer(Knowledge.UNSAID, "does not look at a key without events")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a key is known.

    Attributes:
        here: What the configured host says.
        elsewhere: What the other region's host says; None if it was not asked.
    """

    here: KeyAnswer
    elsewhere: KeyAnswer | None = None


async def locate_key(
    session: aiohttp.ClientSession, api_key: str, here: str, elsewhere: str | None
) -> Whereabouts:
    """Ask for a key at its own upload URL and, if unknown there, at another.

    Args:
        session: Carries the requests.
        api_key: The key.
        here: Upload URL the app is configured for.
        elsewhere: Upload URL of the other region, None if there is none to ask.
    """
    return await locate(partial(ask_for_key, session, api_key), here, elsewhere)


async def locate(
    ask: Callable[[str], Awaitable[KeyAnswer]], here: str, elsewhere: str | None
) -> Whereabouts:
    """Ask one place and, if it does not know the key, another."""
    answer = await ask(here)
    if answer.knowledge is not Knowledge.UNKNOWN or elsewhere is None:
        return Whereabouts(answer)
    return Whereabouts(answer, await ask(elsewhere))


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
                answer = judge_answer(response.status, await response.read())
            if answer != ASKS_FOR_EVENTS:
                break
    except TimeoutError:
        return KeyAnswer(Knowledge.UNSAID, f"no answer within {TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return KeyAnswer(Knowledge.UNSAID, f"not reached: {describe_failure(error)}")
    return answer


def without_a_word(status: int, kind: str = "without a word on the key") -> KeyAnswer:
    """Return what is to be told of an answer that is about something else than the key.

    Args:
        status: The answer's status.
        kind: What is wrong with an answer whose status does not tell.
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
    return KeyAnswer(Knowledge.UNSAID, detail)


def judge_answer(status: int, raw: bytes) -> KeyAnswer:
    """Return what an answer to an upload without events says of the key."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        return without_a_word(status, "without JSON")
    if status == 400 and str(body.get("error")).startswith(BAD_KEY):  # noqa: PLR2004
        return KeyAnswer(Knowledge.UNKNOWN)
    if status == 400 and body.get("missing_field") == "events":  # noqa: PLR2004
        return ASKS_FOR_EVENTS
    if status not in (200, 400) or body.get("code") != status:
        return without_a_word(status)
    return KeyAnswer(Knowledge.KNOWN)
