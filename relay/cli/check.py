"""`relay check`: would the daemon run as configured? Changes nothing."""

from functools import partial
from typing import Annotated, Final

import typer
from rich.text import Text

from relay.cli.access_check import check_access
from relay.cli.certificate_check import check_certificates
from relay.cli.data_check import check_archived, check_database, check_folder, check_sqlite
from relay.cli.door_check import check_door
from relay.cli.failure import CommandFailed, run
from relay.cli.findings import Finding, good
from relay.cli.online_check import check_keys
from relay.cli.options import EnvFile, read_settings
from relay.cli.output import print_aligned
from relay.clock import SystemClock
from relay.outbox.recovery import outbox_recovery_spec
from relay.outbox.store import DATABASE_NAME as OUTBOX_NAME
from relay.segments.recovery import RECOVERY_SPEC as SEGMENTS_RECOVERY_SPEC
from relay.segments.store import DATABASE_NAME as SEGMENTS_NAME
from relay.settings import Settings

DATABASES: Final = (OUTBOX_NAME, SEGMENTS_NAME)


def check(
    *,
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Also ask Amplitude and OneSignal whether they know the keys."
        ),
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Check the configuration, the databases and the doors, and the keys if asked to."""
    settings = read_settings(env_file)
    findings = [good("configuration", f"apps: {', '.join(sorted(settings.apps))}")]
    findings += [check_folder(settings.data_dir), check_access(settings.data_dir)]
    specs = {
        OUTBOX_NAME: outbox_recovery_spec(settings.apps),
        SEGMENTS_NAME: SEGMENTS_RECOVERY_SPEC,
    }
    for name, spec in specs.items():
        path = (settings.data_dir / name).resolve()
        findings += [check_database(path, spec), *check_archived(path)]
    findings += [check_sqlite()]
    findings += check_certificates(settings, SystemClock())
    findings += run(partial(_check_network, settings, online=online))
    _show(findings)
    if failed := [finding.name for finding in findings if not finding.is_ok]:
        raise CommandFailed(f"failed: {', '.join(failed)}")


async def _check_network(settings: Settings, *, online: bool) -> list[Finding]:
    findings = [
        await check_door("public door", settings.listen, settings.tls_cert_file),
        await check_door("admin door", settings.admin_listen, settings.admin_tls_cert_file),
    ]
    return findings + await check_keys(settings) if online else findings


def _show(findings: list[Finding]) -> None:
    rows = []
    for finding in findings:
        word = Text("ok", "green") if finding.is_ok else Text("failed", "bold red")
        rows.append((word, Text(finding.name), Text(finding.text)))
    print_aligned(rows)
