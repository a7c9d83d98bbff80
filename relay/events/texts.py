"""The text a JSON value stands for; what says nothing is treated as if it were not there."""

from collections.abc import Iterator


def text_of(value: object) -> str | None:
    """Return the value as text, or None if it is blank or neither text nor number.

    Numbers keep all their digits, whole ones without a decimal point. Truth values are no text.

    Source: OneSignal renders a missing value of a quoted placeholder as the empty string (Event
    Streams data reference, 2026).
    """
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return None


def texts_in(document: object) -> Iterator[str]:
    """Yield every text and every number of a JSON document, as texts, names of keys left out."""
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
        elif value is not None:
            yield str(value)
