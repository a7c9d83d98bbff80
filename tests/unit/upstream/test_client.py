"""Links that may be followed, and foreign text that may be repeated."""

import pytest
from yarl import URL

from relay.upstream.client import MAX_QUOTED, REDACTED, log_safe, parse_link

BASE = URL("https://amplitude.com/api/5/cohorts/request/r1/file")


@pytest.mark.parametrize(
    ("text", "link"),
    [
        (
            "https://s3.test/a%2Fb?X-Sig=%2b+%7E/=&e=60",
            "https://s3.test/a%2Fb?X-Sig=%2b+%7E/=&e=60",
        ),
        ("/files/1?a=b%20c", "https://amplitude.com/files/1?a=b%20c"),
        ("//s3.test/x", "https://s3.test/x"),
    ],
)
def test_links_are_followed_letter_for_letter(text: str, link: str) -> None:
    """A signature covers the escapes too."""
    parsed = parse_link(text, base=BASE)
    assert parsed is not None
    assert str(parsed) == link


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "file:///etc/passwd", "ftp://s3.test/x", "data:text/csv,a", "mailto:a@b.test"),
        *("http://s3.test/x", "https://[::1", "https://s3.test:port/x"),
    ],
)
def test_other_links_are_not_followed(text: str | None) -> None:
    """No other schemes, no downgrade from TLS, no links without a host."""
    assert parse_link(text, base=BASE) is None


def test_without_encryption_a_link_need_not_have_any() -> None:
    """A test or a local proxy may speak plain HTTP."""
    assert parse_link("http://s3.test/x", base=URL("http://127.0.0.1:1/y")) is not None


def test_foreign_text_cannot_control_a_terminal() -> None:
    """They are printed: no escape sequence moves a cursor or hides text."""
    assert log_safe(["no\x1b[2Jth\u202eing\x00 \u2028é"], []) == "no [2Jth ing é"


def test_foreign_text_is_short_and_free_of_secrets() -> None:
    """A service may echo what it was sent, at any length."""
    assert log_safe(["Invalid\n  key: s3cret"], ["s3cret", ""]) == f"Invalid key: {REDACTED}"
    assert log_safe([None, 5, "a", {"b": 1}, "c"], []) == "a c"
    assert len(log_safe(["x" * 1_000], [])) == MAX_QUOTED + 1
