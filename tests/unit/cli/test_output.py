"""Output for terminals."""

import pytest

from relay.cli.output import clean, instant, span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Grüße \N{WAVING HAND SIGN}", "Grüße \N{WAVING HAND SIGN}"),
        ("\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
        ("a\nb\x9b2J", "a\ufffdb\ufffd2J"),
    ],
)
def test_foreign_text_cannot_control_a_terminal(text: str, expected: str) -> None:
    """Neither escapes nor their eight-bit spelling."""
    assert clean(text) == expected


def test_instants_are_read_in_utc() -> None:
    """To the second; an absent one says so."""
    assert instant(1_767_261_906_412) == "2026-01-01 10:05:06Z"
    assert instant(None) == "never"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (5_400, "1.5 h"), (129_600, "1.5 d")],
)
def test_spans_have_their_largest_unit(seconds: float, expected: str) -> None:
    """A number and a unit."""
    assert span(seconds) == expected
