"""A door's certificate and key, renewed while the door is open.

A renewal writes new files and sends SIGHUP: open connections keep the old certificate, new ones
get the new one.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.errors import ConfigError

PROTOCOL: Final = "http/1.1"


class Certificate:
    """One certificate with its key, in files.

    Attributes:
        context: For the listening socket; new connections get the files as last read.
    """

    def __init__(self, variables: str, cert_file: Path, key_file: Path) -> None:
        """Read the files.

        Args:
            variables: Prefix of the settings' names, such as `RELAY_TLS`.
            cert_file: The certificate chain in PEM, leaf first.
            key_file: Its private key in PEM, not encrypted.

        Raises:
            ConfigError: If a file cannot be used; the text says which and why.
        """
        self._variables = variables
        self._cert_file = cert_file
        self._key_file = key_file
        self.context = self.read()

    def read(self) -> ssl.SSLContext:
        """Return a context made of the files as they are now.

        Raises:
            ConfigError: If they cannot be used.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([PROTOCOL])
        self._load_into(context)
        return context

    def renew(self) -> None:
        """Use the files as they are now from the next connection on.

        Raises:
            ConfigError: If they cannot be used; the old certificate stays.
        """
        # Try them on another context first: a half-written certificate would break the live one.
        self.read()
        self._load_into(self.context)

    def _load_into(self, context: ssl.SSLContext) -> None:
        for variable, file in (("CERT_FILE", self._cert_file), ("KEY_FILE", self._key_file)):
            _try_reading(f"{self._variables}_{variable}", file)
        try:
            context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError([f"{self._variables}_CERT_FILE: {_explain(error)}"]) from None


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates of the two doors; a door without one speaks plain HTTP."""

    public: Certificate | None
    admin: Certificate | None

    @property
    def public_tls(self) -> ssl.SSLContext | None:
        """TLS of the public door's socket; None: plain HTTP."""
        return self.public.context if self.public else None

    @property
    def admin_tls(self) -> ssl.SSLContext | None:
        """TLS of the admin door's socket; None: plain HTTP."""
        return self.admin.context if self.admin else None

    def check(self) -> None:
        """Read all files again without using them.

        Raises:
            ConfigError: If one cannot be used.
        """
        for certificate in self._held:
            certificate.read()

    def renew(self) -> None:
        """Use all files as they are now.

        Raises:
            ConfigError: If one cannot be used.
        """
        for certificate in self._held:
            certificate.renew()

    @property
    def _held(self) -> list[Certificate]:
        return [certificate for certificate in (self.public, self.admin) if certificate]


def trusting(cert_file: Path) -> ssl.SSLContext:
    """Return a client's context that trusts exactly this certificate, whoever signed it.

    Raises:
        ConfigError: If the file does not hold one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # commands connect by address
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cert_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError([f"{cert_file}: {_explain(error)}"]) from None
    return context


def _try_reading(variable: str, file: Path) -> None:
    try:
        file.read_bytes()
    except OSError as error:
        raise ConfigError([f"{variable}: {file} cannot be read: {error.strerror}"]) from None


_no_password: Callable[[], str] = str  # without it OpenSSL asks on the terminal


def _explain(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    match reason:
        case "KEY_VALUES_MISMATCH":
            return "the key is not this certificate's; wanted the pair"
        case "NO_START_LINE" | "PEM_LIB" | "NO_CERTIFICATE_OR_CRL_FOUND" | None:
            return "wanted a certificate and its unencrypted key, both in PEM"
        case _:
            return f"the certificate cannot be used: {reason}"
