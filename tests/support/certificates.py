"""Certificates made for a test, as files."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme
from cryptography import x509

AUTHORITY = trustme.CA()


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its key.

    Attributes:
        cert: The chain's file.
        key: The key's file.
        serial: Tells one certificate from another.
    """

    cert: Path
    key: Path
    serial: int


def write_pair(folder: Path, name: str = "door", *, ends: datetime | None = None) -> Pair:
    """Write a new certificate for loopback over that of the same name, if there is one."""
    leaf = AUTHORITY.issue_cert("localhost", "127.0.0.1", not_after=ends)
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key", _serial_of(leaf))
    pair.cert.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(pair.key)
    return pair


def _serial_of(leaf: trustme.LeafCert) -> int:

    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
