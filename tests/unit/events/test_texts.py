import pytest

from relay.events.texts import text_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("user-1", "user-1"),
        (" kept as it is ", " kept as it is "),
        ("", None),
        (" \t\n", None),
        (None, None),
        (True, None),
        (False, None),
        (42, "42"),
        (0, "0"),
        (-1, "-1"),
        (42.0, "42"),
        (-0.0, "0"),
        (4.25, "4.25"),
        (1e22, "10000000000000000000000"),
        (123456789012345678901234567890, "123456789012345678901234567890"),
        ([], None),
        (["x"], None),
        ({"x": 1}, None),
    ],
)
def test_text_of_a_json_value(value: object, expected: str | None) -> None:
    """Blank is absent, numbers are text, truth values and containers are neither."""
    assert text_of(value) == expected
