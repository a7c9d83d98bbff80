"""The 26 kinds of message event: their spellings, their selection, their names in Amplitude.

All of relay identifies a kind by its canonical text (`message.<channel>.<action>`); only this file
knows the other spellings in use.
"""

import difflib
from collections.abc import Mapping
from typing import Final, Literal, get_args

from relay.events.names import NAMES

NameSet = Literal["seed", "2026", "2022"]
"""Which published spelling of Amplitude's event names."""

NAME_SETS: Final[tuple[NameSet, ...]] = get_args(NameSet)

KINDS: Final[frozenset[str]] = frozenset(NAMES["seed"])
"""Every kind OneSignal's Event Streams know."""

SEED_KINDS: Final[tuple[str, ...]] = tuple(
    kind for kind in NAMES["seed"] if not kind.startswith("message.live_activity.")
)
"""The 21 kinds OneSignal's own integration sends; `all` in a selection."""

# Source: earlier and translated copies of OneSignal's Event Streams pages, 2024 and 2025.
_ALIASES: Final = {
    "message.iam.displayed": "message.iam.impression",
    "message.iam.pagedisplayed": "message.iam.page_displayed",
    "message.email.resporedasspam": "message.email.reported_as_spam",
    "message.email.hardbounced": "message.email.bounced",
    "message.email.supressed": "message.email.suppressed",
}
_CANONICAL: Final = {kind: kind for kind in KINDS} | _ALIASES

# Source: OneSignal's Amplitude page, 2025 ("push, in-app, email, SMS") and 2022 ("sms").
_MESSAGE_TYPES: Final = {
    "push": "push",
    "iam": "in-app",
    "email": "email",
    "sms": "SMS",
    "live_activity": "live_activity",
}
_MESSAGE_TYPES_2022: Final = _MESSAGE_TYPES | {"sms": "sms"}


def _channel(kind: str) -> str:
    return kind.split(".")[1]


_TYPE_OF: Final[Mapping[str, Mapping[str, str]]] = {
    name_set: {kind: types[_channel(kind)] for kind in KINDS}
    for name_set, types in {
        "seed": _MESSAGE_TYPES,
        "2026": _MESSAGE_TYPES,
        "2022": _MESSAGE_TYPES_2022,
    }.items()
}

_CHANNELS: Final = {
    f"message.{channel}.*": frozenset(kind for kind in KINDS if _channel(kind) == channel)
    for channel in _MESSAGE_TYPES
}
_SELECTIONS: Final[Mapping[str, frozenset[str]]] = {
    **{spelling: frozenset({kind}) for spelling, kind in _CANONICAL.items()},
    **_CHANNELS,
    "all": frozenset(SEED_KINDS),
}


def normalise_kind(text: str) -> str | None:
    """Return the kind that `text` spells, None if it spells none.

    Accepts capitals, stray spaces, a space in place of a dot, and the names that OneSignal's
    documentation printed at other times.
    """
    return _CANONICAL.get(text) or _CANONICAL.get(_tidy(text))


def event_name(kind: str, name_set: NameSet) -> str:
    """Return Amplitude's `event_type` for a canonical kind."""
    return NAMES[name_set][kind]


def message_type(kind: str, name_set: NameSet) -> str:
    """Return the event property `message_type` for a canonical kind."""
    return _TYPE_OF[name_set][kind]


def parse_selection(text: str) -> frozenset[str]:
    """Return the kinds that a setting such as `all, message.live_activity.*` selects.

    Args:
        text: Comma-separated kinds, channels (`message.push.*`) and `all` (the seed's 21).

    Raises:
        ValueError: If there is no entry, or one selects nothing; the message names the nearest
            valid one.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("no event kind is given; all selects the usual ones")
    selected: set[str] = set()
    for entry in entries:
        kinds = _SELECTIONS.get(_tidy(entry))
        if kinds is None:
            raise ValueError(f"{entry!r} is no event kind; did you mean {_nearest(entry)!r}?")
        selected |= kinds
    return frozenset(selected)


def _tidy(text: str) -> str:
    return ".".join(text.lower().replace(".", " ").split())


def _nearest(entry: str) -> str:
    wanted = [*NAMES["seed"], *_CHANNELS, "all"]
    return difflib.get_close_matches(_tidy(entry), wanted, n=1, cutoff=0.0)[0]
