import json

import pytest

from relay.events.payload import parse_body
from relay.events.texts import json_of, text_of


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
    """Blank is absent, numbers are text, booleans and containers are neither."""
    assert text_of(value) == expected


@pytest.mark.parametrize(
    "text",
    [
        "null",
        '"ü"',
        "123456789012345678901234567890",
        '[[], {}, [1, {"a": [true], "b": "\\"", "": null}, -0.5]]',
    ],
)
def test_a_document_is_written_as_it_was_read(text: str) -> None:
    """A quarantined element can be parsed again."""
    assert json.loads(json_of(json.loads(text))) == json.loads(text)


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[", "]"), ('{"a":', "}"), ('[null,{"é":1,"a":', "},2]"), ('{"b":[],"a":[0,', "]}")],
)
def test_a_document_deeper_than_the_encoder_goes_is_written(opening: str, closing: str) -> None:
    """The parser takes 1,024 levels, Python's encoder fewer: hostile, but not to be lost."""
    depth = 1_010 // len(closing.replace(",2", ""))
    text = opening * depth + "0" + closing * depth
    (document,) = parse_body(b"[%b]" % text.encode())
    with pytest.raises(RecursionError):
        json.dumps(document)
    assert json_of(document).replace(b", ", b",").replace(b": ", b":") == text.encode()
