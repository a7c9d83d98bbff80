"""`relay check`: would the daemon run as configured? Changes nothing."""

from functools import partial
from typing import Annotated

import aiohttp
import anyio
import typer
from rich.text import Text

from relay.amplitude.events_api import PATHS
from relay.cli.data_check import check_database, check_folder, check_sqlite
from relay.cli.door_check import check_door
from relay.cli.failure import CommandFailed, run
from relay.cli.findings import Finding, bad, good
from relay.cli.key_check import Knowledge, Whereabouts, locate_key
from relay.cli.options import EnvFile, read_settings
from relay.cli.output import print_aligned
from relay.outbox.outbox import DATABASE_NAME
from relay.outbox.sql import MIGRATIONS
from relay.settings import AppSettings, Region, Settings, ingest_origin


def check(
    *,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask Amplitude whether it knows the keys.")
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Check the configuration, the database and the doors, and the keys if asked to."""
    settings = read_settings(env_file)
    findings = [good("configuration", f"apps: {', '.join(sorted(settings.apps))}")]
    findings += [check_folder(settings.data_dir)]
    findings += [check_database(settings.data_dir / DATABASE_NAME, len(MIGRATIONS))]
    findings += [check_sqlite()]
    findings += run(partial(_check_network, settings, online=online))
    _show(findings)
    if failed := [finding.name for finding in findings if not finding.is_ok]:
        raise CommandFailed(f"failed: {', '.join(failed)}")


async def _check_network(settings: Settings, *, online: bool) -> list[Finding]:
    findings = [
        await check_door("public door", settings.listen),
        await check_door("admin door", settings.admin_listen),
    ]
    return findings + await _check_keys(settings) if online else findings


async def _check_keys(settings: Settings) -> list[Finding]:
    """Ask for the keys of all apps at once; return the findings in the apps' order."""
    findings: dict[str, Finding] = {}

    async def look(session: aiohttp.ClientSession, app: str, own: AppSettings) -> None:
        findings[app] = await _check_key(session, app, own)

    async with aiohttp.ClientSession() as session, anyio.create_task_group() as group:
        for app, own in settings.apps.items():
            group.start_soon(look, session, app, own, name=f"key of {app}")
    return [findings[app] for app in settings.apps]


async def _check_key(session: aiohttp.ClientSession, app: str, own: AppSettings) -> Finding:
    other: Region = "eu" if own.amplitude_region == "us" else "us"
    path = PATHS[own.amplitude_upload]
    is_default = own.amplitude_ingest_url == ingest_origin(own.amplitude_region)
    where = await locate_key(
        session,
        own.amplitude_api_key.get_secret_value(),
        own.amplitude_ingest_url + path,
        ingest_origin(other) + path if is_default else None,
    )
    host = own.amplitude_region if is_default else own.amplitude_ingest_url
    return describe_key(app, where, host, other)


def describe_key(app: str, where: Whereabouts, host: str, other: Region) -> Finding:
    """Return in words where the key of an app is known.

    Args:
        app: The app's name.
        where: What the hosts said.
        host: The configured host, as a person calls it.
        other: The region that was asked besides.
    """
    name = f"Amplitude key of {app}"
    match where.here.knowledge:
        case Knowledge.KNOWN:
            return good(name, f"known ({host})")
        case Knowledge.UNSAID:
            return bad(name, f"{host}: {where.here.detail}")
        case Knowledge.UNKNOWN:
            text = f"unknown ({host})"
    if where.elsewhere is None:
        return bad(name, text)
    match where.elsewhere.knowledge:
        case Knowledge.KNOWN:
            variable = f"RELAY_APPS__{app.upper()}__AMPLITUDE_REGION"
            return bad(name, f"this key belongs to the other region ({other}): {variable}={other}")
        case Knowledge.UNKNOWN:
            return bad(name, f"unknown in both regions ({host}, {other})")
        case Knowledge.UNSAID:
            return bad(name, f"{text}; the other region ({other}): {where.elsewhere.detail}")


def _show(findings: list[Finding]) -> None:
    rows = []
    for finding in findings:
        word = Text("ok", "green") if finding.is_ok else Text("failed", "bold red")
        rows.append((word, Text(finding.name), Text(finding.text)))
    print_aligned(rows)
