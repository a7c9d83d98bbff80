"""The kinds of value a setting can have, read from text, and what marks a setting's field.

Every parser takes text and returns a small immutable value, or raises `ValueError` whose text says
what is wanted. No such text quotes what was given: it may be a secret.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

MAX_PORT: Final = 65_535

_ADDRESS_WANTED: Final = "host:port, such as 127.0.0.1:8080 or [::1]:8080"
_ORIGIN_WANTED: Final = (
    "http:// or https://, a host and perhaps a port, such as http://127.0.0.1:9000"
)
_COHORTS_WANTED: Final = "all, none, or cohort ids separated by commas"
_TOKENS_WANTED: Final = "one or more secrets, comma-separated, none empty or a <placeholder>"
_SECRET_WANTED: Final = "one line of text, neither empty nor a <placeholder>"  # noqa: S105  a sentence
_UUID_WANTED: Final = "a UUID, such as 11111111-2222-4333-8444-555555555555"

_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?!.*\.?\d+\Z)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a door listens.

    Attributes:
        host: An IP address (IPv6 without brackets) or a host name.
        port: 0 to 65535; 0 lets the kernel choose.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """Write the address as `parse_address` reads it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class CohortSelection:
    """Which of Amplitude's cohorts an app keeps.

    Attributes:
        ids: The chosen ids; `None` means every cohort, an empty set means none.
    """

    ids: frozenset[str] | None

    def __contains__(self, cohort_id: str) -> bool:
        """Whether the cohort is kept."""
        return self.ids is None or cohort_id in self.ids

    @property
    def is_empty(self) -> bool:
        """Whether no cohort is kept, so that none need be polled."""
        return self.ids is not None and not self.ids


ALL_COHORTS: Final = CohortSelection(None)


def parse_address(text: str) -> Address:
    """Read `host:port`; an IPv6 host is written in brackets.

    Raises:
        ValueError: If it is not that, or the port is above 65535.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) <= MAX_PORT):
        raise ValueError(_ADDRESS_WANTED)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise ValueError(_ADDRESS_WANTED)
    elif not _is_ipv4_or_name(host):
        raise ValueError(_ADDRESS_WANTED)
    return Address(host, int(port))


def parse_origin(text: str) -> str:
    """Read the scheme, host and port of a service, without a slash at the end.

    Raises:
        ValueError: If there is anything else: a path, a query, a user.
    """
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(_ORIGIN_WANTED) from None  # the cause quotes the value
    if not _is_bare_origin(parts) or set("?#@\\ ") & set(text):
        raise ValueError(_ORIGIN_WANTED)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def parse_tokens(text: str) -> tuple[SecretStr, ...]:
    """Read secrets separated by commas; spaces around them do not count.

    Raises:
        ValueError: If one is empty, a placeholder, or holds a control character.
    """
    tokens = [token.strip() for token in text.split(",")]
    if not all(map(_is_usable_secret, tokens)):
        raise ValueError(_TOKENS_WANTED)
    return tuple(SecretStr(token) for token in tokens)


def parse_secret(text: str) -> SecretStr:
    """Read one secret.

    Raises:
        ValueError: If it is empty, a placeholder, or holds a control character.
    """
    if not _is_usable_secret(text.strip()):
        raise ValueError(_SECRET_WANTED)
    return SecretStr(text.strip())


def parse_uuid(text: str) -> str:
    """Read a UUID and write it the usual way: lower case, with dashes.

    Raises:
        ValueError: If it is not one.
    """
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError(_UUID_WANTED) from None  # the cause adds nothing


def parse_cohorts(text: str) -> CohortSelection:
    """Read `all`, `none`, or cohort ids separated by commas.

    Raises:
        ValueError: If an id is empty, or a word stands among ids.
    """
    ids = [item.strip() for item in text.split(",")]
    words = {"all", "none"} & {item.lower() for item in ids}
    if not all(ids) or (words and len(ids) > 1):
        raise ValueError(_COHORTS_WANTED)
    if words:
        return ALL_COHORTS if "all" in words else CohortSelection(frozenset())
    return CohortSelection(frozenset(ids))


def _is_usable_secret(text: str) -> bool:
    """Refuse what was never filled in, and line breaks and the like: no header can carry them."""
    is_placeholder = text.startswith("<") and text.endswith(">")
    return bool(text) and text.isprintable() and not is_placeholder


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return False


def _is_ipv4_or_name(host: str) -> bool:
    try:
        return not isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None


def _is_bare_origin(parts: SplitResult) -> bool:
    has_host = bool(parts.hostname) and (
        _is_ipv6(parts.hostname or "") or _is_ipv4_or_name(parts.hostname or "")
    )
    return parts.scheme in {"http", "https"} and has_host and parts.path in {"", "/"}


DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Hint:
    """What the type of a setting does not express.

    Attributes:
        wanted: What a value must be, as the end of "wanted …"; empty if the type says it.
        default: The default in words, if its value does not say it.
        is_secret: Whether a value must never be shown.
    """

    wanted: str = ""
    default: str = ""
    is_secret: bool = False


class Restart:
    """Marks a setting that a running daemon reads at its start alone.

    Sockets, tasks and clients are made of these; a certificate's files are read again, though.
    Every other setting is applied by a reload (`relay.settings.reload`).
    """


RESTART: Final = Restart()


def from_text(parse: Callable[[str], object]) -> BeforeValidator:
    """Parse text; pass on what is already a value."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


LOWER_CASE = from_text(str.lower)
ADDRESS = (from_text(parse_address), Hint("host:port, such as 127.0.0.1:8080 or [::1]:8080"))
FILE = Hint("the path of a file")
SECRET = (from_text(parse_secret), Hint("one line of text", is_secret=True))
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Ratio = Annotated[float, Field(allow_inf_nan=False)]


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
