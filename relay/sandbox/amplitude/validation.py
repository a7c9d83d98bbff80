"""Amplitude's checks of single events: pure, and stricter where its documents are silent.

Precedence is missing → invalid → id length. `/2/httpapi` names only the first failing
event per field, `/batch` names all. An id that is too short or too long refuses the
request on `/2/httpapi`; `/batch` removes it, and the event fails only if no id is left.

Source: Amplitude HTTP V2 and Batch references, 2026; observed bodies of the live service.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.sandbox.amplitude import answers
from relay.sandbox.amplitude.uploads import Upload
from relay.sandbox.common.replies import Answer, JsonObject

MAX_ID_LENGTH: Final = 1_024
ID_FIELDS: Final = ("user_id", "device_id")
BANNED_IDS: Final = frozenset(
    {
        "", "anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown",
        "00000000-0000-0000-0000-000000000000", "{}", "lmy47d", "0", "-1",
    }
)  # fmt: skip
_STRINGS: Final = (
    "event_type insert_id app_version platform os_name os_version device_brand "
    "device_manufacturer device_model carrier country region city dma language productId "
    "revenueType currency ip idfa idfv adid android_id android_app_set_id user_agent "
    "partner_id library version_name"
)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(_STRINGS.split(), (str,)),
    **dict.fromkeys(("time", "quantity", "event_id", "session_id"), (int,)),
    **dict.fromkeys(("price", "revenue", "location_lat", "location_lng"), (int, float)),
    **dict.fromkeys(
        ("event_properties", "user_properties", "groups", "group_properties", "plan"), (dict,)
    ),
    "ingestion_metadata": (dict,),
    "$skip_user_properties_sync": (bool,),
}


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong with one event.

    Attributes:
        index: Position of the event in its request.
        field: The field that the answer names.
    """

    index: int
    field: str


def check_events(
    upload: Upload, poisoned: Sequence[Flaw] = (), *, names_all: bool | None = None
) -> Answer | list[JsonObject]:
    """Return the events as Amplitude would store them, or the answer that refuses them.

    Args:
        upload: The request.
        poisoned: Further invalid fields, because of the standing conditions.
        names_all: Whether every failing index is named; None = as the endpoint does.
    """
    is_complete = upload.is_batch if names_all is None else names_all
    missing = [flaw for i, event in enumerate(upload.events) for flaw in _missing(i, event)]
    if missing:
        return answers.missing_event_fields(_by_field(missing, names_all=is_complete))
    invalid = [flaw for i, event in enumerate(upload.events) for flaw in _invalid(i, event)]
    invalid.extend(poisoned)
    if invalid:
        invalid.sort(key=lambda flaw: flaw.index)
        return answers.invalid_event_fields(_by_field(invalid, names_all=is_complete))
    if upload.is_batch:
        # It never refuses an event for one bad id as long as the other is usable.
        return _strip_ids(upload)
    lengths = [
        Flaw(i, name)
        for i, event in enumerate(upload.events)
        for name in _ids_of_wrong_length(event, upload.min_id_length)
    ]
    if lengths:
        return answers.invalid_id_lengths(_by_field(lengths, names_all=is_complete))
    return upload.events


def _missing(index: int, event: JsonObject) -> Iterable[Flaw]:
    if event.get("event_type") in (None, ""):
        yield Flaw(index, "event_type")
    if event.get("user_id") is None and event.get("device_id") is None:
        yield Flaw(index, "user_id")


def _invalid(index: int, event: JsonObject) -> Iterable[Flaw]:
    for name, value in event.items():
        if value is None:
            continue
        wanted = _TYPES.get(name)
        # By exact type: to JSON a boolean is no number.
        if wanted is not None and type(value) not in wanted:
            yield Flaw(index, name)
    for name in ID_FIELDS:
        identity = event.get(name)
        if identity is None:
            continue
        if not isinstance(identity, str) or identity.strip().lower() in BANNED_IDS:
            yield Flaw(index, name)


def _ids_of_wrong_length(event: JsonObject, min_length: int) -> list[str]:
    wrong = []
    for name in ID_FIELDS:
        identity = event.get(name)
        if isinstance(identity, str) and not min_length <= len(identity) <= MAX_ID_LENGTH:
            wrong.append(name)
    return wrong


def _strip_ids(upload: Upload) -> Answer | list[JsonObject]:
    """Remove ids of a wrong length; refuse events that are left without any."""
    kept: list[JsonObject] = []
    bare: list[Flaw] = []
    for index, event in enumerate(upload.events):
        wrong = _ids_of_wrong_length(event, upload.min_id_length)
        stripped = {name: value for name, value in event.items() if name not in wrong}
        if all(stripped.get(name) is None for name in ID_FIELDS):
            bare.extend(Flaw(index, name) for name in wrong)
        kept.append(stripped if wrong else event)
    if bare:
        return answers.invalid_id_lengths(_by_field(bare, names_all=True))
    return kept


def _by_field(flaws: Iterable[Flaw], *, names_all: bool) -> dict[str, list[int]]:
    """Group indices by field: all of them, or the first only."""
    grouped: dict[str, list[int]] = {}
    for flaw in flaws:
        indices = grouped.setdefault(flaw.field, [])
        if names_all or not indices:
            indices.append(flaw.index)
    return grouped
