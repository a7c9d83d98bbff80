"""Checks every app's keys with both services, by requests that change nothing there."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import aiohttp
import anyio
from pydantic import SecretStr

from relay.amplitude.events_api import PATHS
from relay.cli.check.key_answers import (
    KeyAnswer,
    Knowledge,
    ask_for_key,
    ask_for_onesignal_key,
    ask_for_pair,
)
from relay.cli.check.report import Finding, bad, good
from relay.settings import AppSettings, Region, Settings

Ask: TypeAlias = Callable[[str], Awaitable[KeyAnswer]]


@dataclass(frozen=True, slots=True)
class RegionAnswers:
    """What the regions say of a key.

    Attributes:
        here: The answer of the configured host.
        elsewhere: The answer of the other region's host, `None` if it was not asked.
    """

    here: KeyAnswer
    elsewhere: KeyAnswer | None = None

    @property
    def are_unknown(self) -> bool:
        """Whether the key is unknown here, and not known to be of the other region."""
        is_elsewhere = self.elsewhere and self.elsewhere.knowledge is Knowledge.KNOWN
        return self.here.knowledge is Knowledge.UNKNOWN and not is_elsewhere


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one key.

    Attributes:
        key: Its name for people.
        ask: Asks one host.
        here: The configured host.
        elsewhere: The other region's host, `None` if there is none to ask.
        wanted: A hint to print if no host knows the key.
    """

    key: str
    ask: Ask
    here: str
    elsewhere: str | None = None
    wanted: str = ""


async def check_keys(settings: Settings) -> list[Finding]:
    """Check the keys of all apps concurrently; return the findings in the apps' order."""
    findings: dict[str, Finding] = {}

    async def look(question: Question, app: str, own: AppSettings) -> None:
        where = await locate(question.ask, question.here, question.elsewhere)
        name = f"{question.key} of {app}"
        is_default = question.elsewhere is not None
        host = own.amplitude_region if is_default else question.here
        found = describe_key(name, app, where, host, _other(own.amplitude_region))
        if question.wanted and where.are_unknown and not where.here.detail:
            found = bad(found.name, f"{found.text}; {question.wanted}")
        findings[name] = found

    names = []
    async with aiohttp.ClientSession() as session, anyio.create_task_group() as group:
        for app, own in settings.apps.items():
            for question in _questions(session, own):
                names.append(f"{question.key} of {app}")
                group.start_soon(look, question, app, own, name=names[-1])
    return [findings[name] for name in names]


async def locate(
    ask: Callable[[str], Awaitable[KeyAnswer]], here: str, elsewhere: str | None
) -> RegionAnswers:
    """Ask one host and, if it does not know the key, another."""
    answer = await ask(here)
    if answer.knowledge is not Knowledge.UNKNOWN or elsewhere is None:
        return RegionAnswers(answer)
    return RegionAnswers(answer, await ask(elsewhere))


def describe_key(name: str, app: str, where: RegionAnswers, host: str, other: Region) -> Finding:
    """Return what the regions say of a key, in words.

    Args:
        name: The key's name for people.
        app: Its app.
        where: The answers.
        host: The configured host's name for people.
        other: The other region.
    """
    match where.here.knowledge:
        case Knowledge.KNOWN:
            return good(name, f"known ({host})")
        case Knowledge.UNCLEAR:
            return bad(name, f"{host}: {where.here.detail}")
        case Knowledge.UNKNOWN:
            text = f"unknown ({host})"
            if where.here.detail:
                return bad(name, f"{text}; {where.here.detail}")
    if where.elsewhere is None:
        return bad(name, text)
    match where.elsewhere.knowledge:
        case Knowledge.KNOWN:
            variable = f"RELAY_APPS__{app.upper()}__AMPLITUDE_REGION"
            return bad(name, f"this key belongs to the other region ({other}): {variable}={other}")
        case Knowledge.UNKNOWN:
            return bad(name, f"unknown in both regions ({host}, {other})")
        case Knowledge.UNCLEAR:
            return bad(name, f"{text}; the other region ({other}): {where.elsewhere.detail}")


async def _ask_for_key(
    session: aiohttp.ClientSession, api_key: str, path: str, origin: str
) -> KeyAnswer:
    return await ask_for_key(session, api_key, origin + path)


def _questions(session: aiohttp.ClientSession, own: AppSettings) -> Iterator[Question]:
    """Yield a question for each key of an app."""
    usual = _moved(own, own.amplitude_region)
    other = _moved(own, _other(own.amplitude_region))
    api_key = _plain(own.amplitude_api_key)
    # A host set by hand has no counterpart in the other region.
    is_usual = own.amplitude_ingest_url == usual.amplitude_ingest_url
    yield Question(
        "Amplitude key",
        partial(_ask_for_key, session, api_key, PATHS[own.amplitude_upload]),
        own.amplitude_ingest_url,
        other.amplitude_ingest_url if is_usual else None,
    )
    if own.amplitude_secret_key is not None:
        is_usual = own.amplitude_cohorts_url == usual.amplitude_cohorts_url
        yield Question(
            "Amplitude secret key",
            partial(ask_for_pair, session, api_key, _plain(own.amplitude_secret_key)),
            own.amplitude_cohorts_url,
            other.amplitude_cohorts_url if is_usual else None,
            "API key and secret key must be of one project",
        )
    if own.onesignal_api_key is not None:
        key = _plain(own.onesignal_api_key)
        yield Question(
            "OneSignal key",
            partial(ask_for_onesignal_key, session, own.onesignal_app_id, key),
            own.onesignal_api_url,
            wanted="an App API key of this very app is wanted, not an organisation's",
        )


def _moved(own: AppSettings, region: Region) -> AppSettings:
    """Return an app with the hosts of a region."""
    hosts = {"amplitude_ingest_url": "", "amplitude_cohorts_url": ""}  # by region
    return AppSettings.model_validate({**dict(own), **hosts, "amplitude_region": region})


def _other(region: Region) -> Region:
    return "eu" if region == "us" else "us"


def _plain(secret: SecretStr) -> str:
    return secret.get_secret_value()
