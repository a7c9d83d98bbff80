"""Looks whether the doors' certificates can be used, and until when."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from relay.cli.findings import Finding, bad, good
from relay.clock import Clock
from relay.errors import ConfigError
from relay.http.server.tls import Certificate, trusting
from relay.settings import Settings

SOON_S: Final = 14 * 86_400
"""Who renews certificates does it earlier than that before their end."""

ROUND_TRIPS: Final = 4
"""More than a handshake takes."""


def check_certificates(settings: Settings, clock: Clock) -> list[Finding]:
    """Say of each door that has a certificate whether a client could be convinced by it."""
    doors = (
        ("public", "RELAY_TLS", settings.tls_cert_file, settings.tls_key_file),
        ("admin", "RELAY_ADMIN_TLS", settings.admin_tls_cert_file, settings.admin_tls_key_file),
    )
    return [
        _check(f"certificate of the {door} door", variables, (cert, key), clock)
        for door, variables, cert, key in doors
        if cert and key
    ]


def _check(name: str, variables: str, files: tuple[Path, Path], clock: Clock) -> Finding:
    try:
        ends_at = _present(Certificate(variables, *files).context, trusting(files[0]))
    except ConfigError as error:
        return bad(name, str(error))
    except ssl.SSLError as error:
        return bad(name, f"no client would take it: {_reason_of(error)}; renew it")
    left_s = ssl.cert_time_to_seconds(ends_at) - clock.now_ms() / 1000
    if left_s < SOON_S:
        return bad(name, f"ends in {left_s / 86_400:.0f} days, on {ends_at}: renew it")
    return good(name, f"valid until {ends_at}")


def _reason_of(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error.reason)


def _present(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> str:
    """Have a client and a server shake hands in memory; return the certificate's last instant.

    Raises:
        ssl.SSLError: If the client is not convinced.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_tls.wrap_bio(to_server, to_client, server_side=True)
    client = client_tls.wrap_bio(to_client, to_server)
    for side in _turns(client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = client.getpeercert() or {}
    return str(shown["notAfter"])


def _turns(client: ssl.SSLObject, server: ssl.SSLObject) -> Iterator[ssl.SSLObject]:
    for _ in range(ROUND_TRIPS):
        yield from (client, server)
