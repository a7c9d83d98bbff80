"""The types of values a setting can have."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.settings.values import (
    ALL_COHORTS,
    Address,
    CohortSelection,
    parse_address,
    parse_cohorts,
    parse_origin,
    parse_secret,
    parse_tokens,
    parse_uuid,
)


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.8.8.8:0", "127.8.8.8", 0, True),
        ("[::1]:8080", "::1", 8080, True),
        ("localhost:65535", "localhost", 65535, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("10.0.0.7:80", "10.0.0.7", 80, False),
        ("relay-1.example.com:80", "relay-1.example.com", 80, False),
        ("localhost.example.com:80", "localhost.example.com", 80, False),
    ],
)
def test_address_is_read_and_written_alike(
    text: str,
    host: str,
    port: int,
    is_loopback: bool,  # noqa: FBT001  a table's column
) -> None:
    """Host and port are split, and an IPv6 host loses its brackets."""
    address = parse_address(text)
    assert (address, address.is_loopback, str(address)) == (Address(host, port), is_loopback, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nowhere",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:http",
        "127.0.0.1:٨٠",
        "127.0.0.1: 80",
        "256.0.0.1:80",
        "::1:8080",
        "[::1]",
        "[127.0.0.1]:80",
        "[]:80",
        "a b:80",
        "-a:80",
        "http://localhost:80",
    ],
)
def test_invalid_address_is_rejected(text: str) -> None:
    """Above all an IPv6 address without brackets, whose port would be a guess."""
    with pytest.raises(ValueError, match="host:port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("https://api2.amplitude.com/", "https://api2.amplitude.com"),
        ("HTTPS://API.Example.com:443", "https://api.example.com:443"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_origin_is_scheme_host_and_port(text: str, origin: str) -> None:
    """A trailing slash is allowed, and case does not matter."""
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "api2.amplitude.com",
        "ftp://example.com",
        "http://",
        "http:///x",
        "http://:80",
        "http://example.com/2/httpapi",
        "http://example.com//",
        "http://example.com?x",
        "http://example.com?",
        "http://example.com#",
        "http://me@example.com",
        "http://me:password@example.com",
        "http://example.com:port",
        "http://example.com:65536",
        "http://exa mple.com",
        "http://[::1",
        "http://example.com\\x",
    ],
)
def test_origin_with_anything_else_is_rejected_and_not_quoted(text: str) -> None:
    """The path and the credentials are relay's to add."""
    wanted = "http:// or https://, a host and perhaps a port, such as http://127.0.0.1:9000"
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}$"):
        parse_origin(text)


def test_cohort_selection_is_all_none_or_ids() -> None:
    """Ids are case-sensitive; the two words are not."""
    assert parse_cohorts("ALL") == ALL_COHORTS
    assert parse_cohorts("none") == CohortSelection(frozenset())
    assert parse_cohorts("a, B ,a") == CohortSelection(frozenset({"a", "B"}))


@pytest.mark.parametrize("text", ["", ",", "a,", "all,a", "none,a", "all,none"])
def test_mixed_cohort_selection_is_rejected(text: str) -> None:
    """A word among ids is ambiguous."""
    with pytest.raises(ValueError, match="all, none, or cohort ids"):
        parse_cohorts(text)


def test_cohort_selection_answers_what_is_kept() -> None:
    """Pollers ask for one id, and whether to poll at all."""
    chosen = CohortSelection(frozenset({"a"}))
    nothing = CohortSelection(frozenset())
    assert ("a" in ALL_COHORTS, "a" in chosen, "b" in chosen, "a" in nothing) == (
        True,
        True,
        False,
        False,
    )
    assert (ALL_COHORTS.is_empty, chosen.is_empty, nothing.is_empty) == (False, False, True)


def test_uuid_is_written_the_usual_way() -> None:
    """Events are compared with it as text."""
    plain = "1111111122224333A444555555555555"
    assert parse_uuid(plain) == "11111111-2222-4333-a444-555555555555"
    with pytest.raises(ValueError, match="a UUID"):
        parse_uuid("shop")


@given(st.text())
def test_parsers_reject_any_text_without_quoting_it(text: str) -> None:
    """The result is a value or a sentence that does not quote the text."""
    marked = f"\x00{text}§"
    for parse in (parse_address, parse_origin, parse_tokens, parse_secret, parse_uuid):
        with pytest.raises(ValueError, match=r"^[^\x00§]+$"):
            parse(marked)
