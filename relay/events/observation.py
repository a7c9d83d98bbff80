"""What an event says of a subscription, and whether that is newer than what is known. Pure."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.events.records import Record
from relay.onesignal.export_file import type_of_label

# Source: OneSignal's metrics glossary (2026): a push counts as unsubscribed when the push service
# rejects its token at sending; what the template says of the flag beside it may be older.
_ENDS: Final = frozenset({"message.push.unsubscribed", "message.email.unsubscribed"})
# OneSignal sends to subscribed subscriptions only, so that a sent message proves the flag.
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
# In-app messages are shown by the app itself, also to users who never allowed pushes.
_IN_APP: Final = "message.iam."

_LABELS: Final[Mapping[str, str]] = {"email": "Email", "sms": "SMS"}


class Observation(NamedTuple):
    """What one event says of a subscription.

    Attributes:
        external_id: Its user; None if the event names none, so that only a known subscription
            can be concerned.
        subscription_id: OneSignal's id of it.
        type: OneSignal's name of its kind.
        flag: Whether it is subscribed; None if the event does not say.
        is_proof_of_flag: Whether `flag` counts for a known subscription too; if not, only for one
            never seen, where None means subscribed.
        at: When this was so, UTC epoch milliseconds.
    """

    external_id: str | None
    subscription_id: str
    type: str
    flag: bool | None
    is_proof_of_flag: bool
    at: int


def read_observation(record: Record, *, received_at: int) -> Observation | None:
    """Return what an event says of its subscription, None if nothing.

    The instant is the event's own, but never later than its arrival: otherwise a source whose clock
    runs ahead would outdo truly later events.

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
    return Observation(
        external_id=record.external_id,
        subscription_id=record.subscription_id,
        type=type_of_label(record.device_type or _usual_label(record.kind)),
        flag=flag,
        is_proof_of_flag=is_proof,
        at=received_at if record.time_ms is None else min(record.time_ms, received_at),
    )


def flag_of(record: Record) -> tuple[bool | None, bool]:
    """Return the subscription flag an event implies, and whether that is proof."""
    if record.kind in _ENDS:
        return False, True
    if record.is_subscribed is not None:
        return record.is_subscribed, True
    if record.kind in _REACHED:
        return True, True
    return (False if record.kind.startswith(_IN_APP) else None), False


def _usual_label(kind: str) -> str:
    return _LABELS.get(kind.split(".")[1], "Push")


class KnownSubscription(NamedTuple):
    """A subscription as the directory has it.

    Attributes:
        external_id: Whose it is.
        type: OneSignal's name of its kind.
        is_subscribed: Its flag.
        as_of: When this was so, UTC epoch milliseconds.
        is_from_app: Whether the app itself stated it, which bears no instant of its own.
    """

    external_id: str
    type: str
    is_subscribed: int
    as_of: int
    is_from_app: int


def merge(
    observation: Observation, known: KnownSubscription | None, exported_at: int
) -> KnownSubscription | None:
    """Return what is known of a subscription after an observation; None if nothing is new.

    Of an event and an export the newer wins. A complete export is authoritative: a subscription
    missing from it did not exist at its instant. Statements of the app and events count in order
    of arrival.

    Args:
        observation: Of one event.
        known: What is known so far, None for a subscription never seen.
        exported_at: When the last complete export was asked for, 0 if never.
    """
    if known is None:
        if observation.external_id is None or observation.at <= exported_at:
            return None
        flag = int(observation.flag is not False)
        return KnownSubscription(observation.external_id, observation.type, flag, observation.at, 0)
    oldest = exported_at if known.is_from_app else max(exported_at, known.as_of)
    if observation.at < oldest:
        return None
    flag = known.is_subscribed
    if observation.is_proof_of_flag and observation.flag is not None:
        flag = int(observation.flag)
    owner = observation.external_id or known.external_id
    if (owner, flag) == (known.external_id, known.is_subscribed):
        return None
    return KnownSubscription(owner, known.type, flag, max(observation.at, known.as_of), 0)
