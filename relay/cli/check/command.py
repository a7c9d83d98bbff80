"""`relay check`: would the daemon run as configured? Changes nothing."""

from functools import partial
from typing import Annotated

import typer

from relay.cli.check.data import check_data
from relay.cli.check.doors import check_certificates, check_door
from relay.cli.check.keys import check_keys
from relay.cli.check.report import Finding, good, print_findings
from relay.cli.exit_codes import run
from relay.cli.options import Configured
from relay.clock import SystemClock
from relay.errors import CommandFailed
from relay.settings import Settings


def check(
    *,
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Also ask Amplitude and OneSignal whether they know the keys."
        ),
    ] = False,
    settings: Configured,
) -> None:
    """Check the configuration, the databases and the doors, and the keys if asked to."""
    findings = [good("configuration", f"apps: {', '.join(sorted(settings.apps))}")]
    findings += check_data(settings)
    findings += check_certificates(settings, SystemClock())
    findings += run(partial(_check_network, settings, online=online))
    print_findings(findings)
    if failed := [finding.name for finding in findings if not finding.is_ok]:
        raise CommandFailed(f"failed: {', '.join(failed)}")


async def _check_network(settings: Settings, *, online: bool) -> list[Finding]:
    findings = [
        await check_door("public door", settings.listen, settings.tls_cert_file),
        await check_door("admin door", settings.admin_listen, settings.admin_tls_cert_file),
    ]
    return findings + await check_keys(settings) if online else findings
