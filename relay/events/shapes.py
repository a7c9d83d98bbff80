"""Where a body has its fields: every shape is converted to one, nested objects.

OneSignal has no fixed body; each customer's template decides. Common are nested objects (relay's
own template), one flat object with dotted names, dotted names under "Event Data" and "Message
Data", and flat names with underscores. This file moves values and never interprets them.

Source: OneSignal, Event Streams and Event Streams data reference, 2025 and 2026.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

Section = Mapping[str, object]


class Sections(NamedTuple):
    """The fields of one event, by the object they belong to; a missing object is empty."""

    event: Section
    data: Section
    message: Section
    user: Section
    subscription: Section


_EMPTY: Final[Section] = {}

# The names relay reads, by the dotted path of their object.
_READ: Final[Mapping[str, tuple[str, ...]]] = {
    "event": (
        "kind",
        "id",
        "timestamp",
        "datetime",
        "app_id",
        "subscription_device_type",
        "subscription_id",
        "external_id",
    ),
    "event.data": ("page_name", "page_id", "target_name", "target_id", "failure_reason"),
    "message": (
        "id",
        "name",
        "title",
        "contents",
        "template_id",
        "url",
        "app_url",
        "web_url",
    ),
    "user": ("external_id", "language"),
    "user.subscription": ("id", "language", "subscribed"),
}
_DOTTED: Final[Mapping[str, tuple[str, str]]] = {
    f"{path}.{name}": (path, name) for path, names in _READ.items() for name in names
}
# Names that are understood without their object; a dotted name takes precedence.
_LOOSE: Final[Mapping[str, tuple[str, str]]] = {
    dotted.replace(".", "_"): place for dotted, place in _DOTTED.items()
} | {
    "app_id": ("event", "app_id"),
    "timestamp": ("event", "timestamp"),
    "datetime": ("event", "datetime"),
    "subscription_id": ("event", "subscription_id"),
    "subscription_device_type": ("event", "subscription_device_type"),
    "device_type": ("event", "subscription_device_type"),
    "external_id": ("event", "external_id"),
    **{name: ("event.data", name) for name in _READ["event.data"]},
    "iam_id": ("message", "id"),
    "iam_name": ("message", "name"),
    "template_id": ("message", "template_id"),
    "url": ("message", "url"),
    "app_url": ("message", "app_url"),
    "web_url": ("message", "web_url"),
    "language": ("user.subscription", "language"),
}
_OBJECTS: Final[Mapping[str, str]] = {path: f"{path}." for path in _READ} | {
    "Event Data": "event.",
    "Message Data": "message.",
    "User Data": "user.",
}

# What the objects of a purely nested body may hold; anything else means a mixture of shapes.
_NESTED_TOP: Final = frozenset({"relay_template", "event", "message", "user"})
_NESTED_EVENT: Final = frozenset({*_READ["event"], "data", "onesignal_id"})
_NESTED_MESSAGE: Final = frozenset({*_READ["message"], "live_activity_event_kind"})
_NESTED_USER: Final = frozenset({*_READ["user"], "subscription", "onesignal_id", "tags"})


def sections_of(element: dict[str, object]) -> Sections:
    """Return the fields of one event, wherever its shape has them."""
    # relay's own template is nested, and then no field has to be moved.
    return _nested(element) or _gathered(element)


def _nested(element: dict[str, object]) -> Sections | None:
    """Return the objects of a purely nested body, or None for any other."""
    event = element.get("event", _EMPTY)
    message = element.get("message", _EMPTY)
    user = element.get("user", _EMPTY)
    if not (
        element.keys() <= _NESTED_TOP
        and isinstance(event, dict)
        and isinstance(message, dict)
        and isinstance(user, dict)
        and event.keys() <= _NESTED_EVENT
        and message.keys() <= _NESTED_MESSAGE
        and user.keys() <= _NESTED_USER
    ):
        return None
    data = event.get("data", _EMPTY)
    subscription = user.get("subscription", _EMPTY)
    if not (isinstance(data, dict) and isinstance(subscription, dict)):
        return None
    return Sections(event, data, message, user, subscription)


def _gathered(element: dict[str, object]) -> Sections:
    found: dict[str, dict[str, object]] = {path: {} for path in _READ}
    _gather(element, "", found)
    return Sections(*found.values())


def _gather(source: Section, prefix: str, found: dict[str, dict[str, object]]) -> None:
    """Add the fields of `source`; a blank value leaves its place to another spelling."""
    for name, value in source.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if place := _DOTTED.get(name) or _DOTTED.get(prefix + name):
            found[place[0]][place[1]] = value
        elif isinstance(value, dict) and (inner := _OBJECTS.get(prefix + name)):
            _gather(value, inner, found)
        elif place := _LOOSE.get(name):
            found[place[0]].setdefault(place[1], value)
