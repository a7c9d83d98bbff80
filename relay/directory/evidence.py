"""What an event tells of OneSignal's users: who exists, and who is subscribed.

Pure: a record in, a piece of evidence out. Whether it is news is for the directory to say.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.directory.export_file import type_of_label
from relay.events.records import Record

# Source: OneSignal's metrics glossary (2026): a push counts as unsubscribed when the push service
# rejects its token at sending; what the template says of the flag beside it may be older.
_ENDS: Final = frozenset({"message.push.unsubscribed", "message.email.unsubscribed"})
# OneSignal sends to subscribed subscriptions only, so that what was sent proves them to be so.
_REACHED: Final = frozenset(
    {
        "message.push.sent",
        "message.push.received",
        "message.email.sent",
        "message.email.received",
        "message.sms.sent",
        "message.sms.delivered",
    }
)
# In-app messages are shown by the app itself, also to who never allowed pushes.
_IN_APP: Final = "message.iam."

_LABELS: Final[Mapping[str, str]] = {"email": "Email", "sms": "SMS"}


class Evidence(NamedTuple):
    """What one event tells of a subscription.

    Attributes:
        external_id: Its user; None if the event names none, so that it concerns only a
            subscription that is known already.
        subscription_id: OneSignal's id of it.
        type: OneSignal's name of its kind.
        flag: Whether it is subscribed; None if nothing speaks against it.
        is_proof_of_flag: Whether `flag` counts for a known subscription too; if not, only one
            that was never seen takes it, and takes None as subscribed.
        at: The instant the event tells of, UTC epoch milliseconds.
    """

    external_id: str | None
    subscription_id: str
    type: str
    flag: bool | None
    is_proof_of_flag: bool
    at: int


def read_evidence(record: Record, *, received_at: int) -> Evidence | None:
    """Return what an event tells the directory, or None if that is nothing.

    The instant is the event's own, but never later than its arrival: a source whose clock runs
    ahead must not outdo what truly comes later.

    Args:
        record: The event.
        received_at: When it arrived, UTC epoch milliseconds.
    """
    if record.subscription_id is None:
        return None
    # U+0000 ends a text in SQLite's JSON: the id would become another one.
    if "\0" in record.subscription_id or "\0" in (record.external_id or ""):
        return None
    flag, is_proof = flag_of(record)
    if record.external_id is None and not is_proof:
        return None
    return Evidence(
        external_id=record.external_id,
        subscription_id=record.subscription_id,
        type=type_of_label(record.device_type or _usual_label(record.kind)),
        flag=flag,
        is_proof_of_flag=is_proof,
        at=received_at if record.time_ms is None else min(record.time_ms, received_at),
    )


def flag_of(record: Record) -> tuple[bool | None, bool]:
    """Return what an event says of the flag, and whether it proves it."""
    if record.kind in _ENDS:
        return False, True
    if record.is_subscribed is not None:
        return record.is_subscribed, True
    if record.kind in _REACHED:
        return True, True
    return (False if record.kind.startswith(_IN_APP) else None), False


def _usual_label(kind: str) -> str:
    """Return the label of a subscription of which only its channel is known."""
    return _LABELS.get(kind.split(".")[1], "Push")
