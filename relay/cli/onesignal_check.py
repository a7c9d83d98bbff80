"""Asks OneSignal whether it knows a key, by a question that changes nothing: list one segment.

Source: OneSignal, "View segments" and "Keys & IDs" (2026): a list takes `limit`; keys that begin
with `os_v2_` go with the scheme `Key`, older ones with `Basic`. A key of another app, or of an
organisation, is denied access; only some plans have the list, and saying so takes a good key.
"""

from http import HTTPStatus
from typing import Final

import aiohttp
import orjson

from relay.cli.key_check import TIMEOUT_S, KeyAnswer, Knowledge, without_a_word
from relay.upstream.client import describe_failure

NEW_KEY: Final = "os_v2_"

DENIALS: Final = ("Access denied", "header of Authorization")
NOT_IN_PLAN: Final = "on your plan"


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
            return judge_answer(response.status, await response.read())
    except TimeoutError:
        return KeyAnswer(Knowledge.UNSAID, f"no answer within {TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return KeyAnswer(Knowledge.UNSAID, f"not reached: {describe_failure(error)}")


def judge_answer(status: int, raw: bytes) -> KeyAnswer:
    """Return what an answer to the question for a segment says of the key."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return without_a_word(status, "without JSON")
    if not isinstance(body, dict):
        return without_a_word(status)
    if status in (HTTPStatus.OK, HTTPStatus.CREATED) and "segments" in body:
        return KeyAnswer(Knowledge.KNOWN)
    complaint = orjson.dumps(body.get("errors")).decode()  # a text, a list or an object
    if status == HTTPStatus.UNAUTHORIZED or any(denial in complaint for denial in DENIALS):
        return KeyAnswer(Knowledge.UNKNOWN)
    if status == HTTPStatus.FORBIDDEN and NOT_IN_PLAN in complaint:
        return KeyAnswer(Knowledge.KNOWN)
    return without_a_word(status)
