"""Amplitude's list of cohorts, and its count of downloads: bytes to records.

A field that is null or of another type counts as absent; only a missing list makes an answer
unusable. Owners and viewers are e-mail addresses and are never kept.
"""

from typing import Final, NamedTuple

import orjson

from relay.errors import UpstreamUnavailable
from relay.events.instants import instant_ms
from relay.events.texts import text_of

MAX_COUNT: Final = 10**12
"""Larger numbers are not counts of users."""


class Cohort(NamedTuple):
    """A cohort as Amplitude lists it.

    Attributes:
        id: Amplitude's id.
        name: Its name, not unique; the id where it has none.
        size: Members at the last computation, 0 if unknown.
        last_computed_at: When the members were computed, UTC epoch milliseconds; 0 if unknown.
        last_mod_at: When the definition was changed, likewise.
        is_archived: Whether it is archived.
    """

    id: str
    name: str
    size: int
    last_computed_at: int
    last_mod_at: int
    is_archived: bool


class Usage(NamedTuple):
    """Amplitude's own count of the cohorts downloaded this month.

    Attributes:
        limit: Downloads it allows.
        used: Downloads it has counted.
    """

    limit: int
    used: int


def read_cohorts(body: bytes) -> list[Cohort]:
    """Return the cohorts of Amplitude's list; records without an id are skipped.

    Raises:
        UpstreamUnavailable: If this is no such list: missing cohorts prove nothing then.

    Source: Amplitude, Behavioral Cohorts API (2026), "Get all cohorts": times are epoch seconds,
    and only published cohorts are listed.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamUnavailable("Amplitude's list of cohorts is not JSON.") from error
    records = document.get("cohorts") if isinstance(document, dict) else None
    if not isinstance(records, list):
        raise UpstreamUnavailable("Amplitude's list of cohorts lacks the field cohorts.")
    cohorts = (_read_cohort(record) for record in records if isinstance(record, dict))
    return [cohort for cohort in cohorts if cohort is not None]


def _read_cohort(record: dict[str, object]) -> Cohort | None:
    cohort_id = text_of(record.get("id"))
    if cohort_id is None:
        return None
    return Cohort(
        id=cohort_id,
        name=text_of(record.get("name")) or cohort_id,
        size=_count(record.get("size")) or 0,
        last_computed_at=instant_ms(record.get("lastComputed")) or 0,
        last_mod_at=instant_ms(record.get("lastMod")) or 0,
        is_archived=record.get("archived") is True,
    )


def read_usage(body: bytes) -> Usage | None:
    """Return the usage in an answer, None if it is not understood.

    Source: the page "Get usage" of Amplitude's documentation (2026) shows no answer. One client in
    public code reads `rest_download` with `limit` and `usage`, another `limit` and `count`.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    nested = document.get("rest_download")
    figures = nested if isinstance(nested, dict) else document
    limit = _count(figures.get("limit"))
    used = _count(figures.get("usage", figures.get("count")))
    return None if limit is None or used is None else Usage(limit, used)


def _count(value: object) -> int | None:
    """Return a JSON value that is a whole number of a sensible size, else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None
