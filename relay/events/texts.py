"""JSON scalars as text; a blank one counts as missing."""

import json
from collections.abc import Iterator


class _Written(str):
    """A piece of JSON, already encoded."""

    __slots__ = ()


def text_of(value: object) -> str | None:
    """Return a value as text, or None if it is blank or neither text nor number.

    Numbers keep all their digits; whole ones have no decimal point. Truth values are not text.

    Source: OneSignal renders a missing value of a quoted placeholder as the empty string (Event
    Streams data reference, 2026).
    """
    # Nearly every value is a text or missing: these two are decided first.
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return None


def texts_in(document: object) -> Iterator[str]:
    """Yield every text and number of a JSON document, as texts, but not the keys of objects."""
    # A stack, as a body may be nested deeper than Python recurses.
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
        elif value is not None:
            yield str(value)


def json_of(document: object) -> bytes:
    """Encode a JSON document, however deeply it is nested."""
    try:
        text = json.dumps(document, ensure_ascii=False)
    except RecursionError:  # the parser goes deeper than the encoder
        text = "".join(_pieces_of(document))
    return text.encode(errors="replace")


def _pieces_of(document: object) -> Iterator[str]:
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, _Written):
            yield value
        elif isinstance(value, dict):
            rest.append(_Written("}"))
            for place, (name, inner) in enumerate(reversed(value.items()), start=1):
                comma = "," if place < len(value) else ""
                rest += (inner, _Written(f"{comma}{json.dumps(name, ensure_ascii=False)}:"))
            yield "{"
        elif isinstance(value, list):
            rest.append(_Written("]"))
            for place, inner in enumerate(reversed(value), start=1):
                rest += (inner, _Written("," if place < len(value) else ""))
            yield "["
        else:
            yield json.dumps(value, ensure_ascii=False)
