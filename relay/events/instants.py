"""Instants in any of the formats that templates produce; this file never reads a clock.

A value that names no instant, or an absurd one, counts as missing.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

# Numbers from here on count milliseconds: as seconds they would name the year 33658.
_FIRST_IN_MS: Final = 10**12
# The first instant too late to be meant: the start of the year 2100.
_ABSURD_MS: Final = 4_102_444_800_000


def instant_ms(value: object) -> int | None:
    """Return the UTC epoch milliseconds that a JSON value names, or None.

    Accepts ISO 8601 text (with `T` or a space, UTC unless it has an offset, optionally followed by
    ` UTC`), and seconds or milliseconds since 1970, as a number or as text.

    Source: OneSignal, Event Streams data reference: `event.datetime` is ISO text in UTC with
    milliseconds, `event.timestamp` UNIX seconds, quoted or not as the template has it.
    """
    if isinstance(value, str):
        instant = _from_text(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        instant = _from_number(value)
    else:
        return None
    return instant if instant is not None and 0 < instant < _ABSURD_MS else None


def _from_text(text: str) -> int | None:
    if text.replace(".", "", 1).isdecimal():
        return _from_number(float(text))
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND


def _from_number(number: float) -> int | None:
    if not 0 < number < _ABSURD_MS:
        return None
    return int(number) if number >= _FIRST_IN_MS else round(number * 1000)
