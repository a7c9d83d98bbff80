"""One message event, read: what relay understands of it, before any policy is applied.

An attribute is None when the event does not have it, or has a blank text. Both classes are tuples:
they are made for every event, and a frozen dataclass takes three times as long.
"""

from typing import Any, NamedTuple

import orjson

from relay.events.titles import Wording


class MessageFields(NamedTuple):
    """The message of an event.

    Attributes:
        id: OneSignal's message id, the same for all events of one message.
        name: Its name in the dashboard.
        title: Heading of a push, subject of an e-mail.
        contents: Text of a push or SMS, clipped by OneSignal at 50 characters.
        template_id: The template it was made from.
        url: Its link.
        app_url: Its link within the app.
        web_url: Its link on the web.
    """

    id: str | None = None
    name: str | None = None
    title: Wording | None = None
    contents: Wording | None = None
    template_id: str | None = None
    url: str | None = None
    app_url: str | None = None
    web_url: str | None = None

    @property
    def is_blank(self) -> bool:
        """Whether neither name, title nor contents are known."""
        return self.name is None and self.title is None and self.contents is None

    def to_json(self) -> bytes:
        """Return the present fields as a JSON object."""
        return orjson.dumps(_known(self))

    @classmethod
    def from_json(cls, stored: bytes) -> "MessageFields":
        """Return the fields written by `to_json`."""
        return cls(**orjson.loads(stored))


class Record(NamedTuple):
    """One message event of OneSignal.

    Attributes:
        kind: Canonical kind, one of `catalog.KINDS`.
        event_id: OneSignal's id of the event, the same for every repetition.
        app_id: OneSignal's id of the app.
        subscription_id: The device, address or number the event is about.
        external_id: The app's own id of the user.
        device_type: OneSignal's label of the device.
        is_subscribed: Whether the subscription was subscribed when the event was sent.
        time_ms: When it happened, in UTC epoch milliseconds.
        languages: Language codes of the device, then of the user.
        page_name: Page of an in-app message.
        page_id: Its id.
        target_name: Element of an in-app message that was clicked.
        target_id: Its id.
        failure_reason: Why a push or e-mail failed.
        message: The message it is about.
    """

    kind: str
    event_id: str | None = None
    app_id: str | None = None
    subscription_id: str | None = None
    external_id: str | None = None
    device_type: str | None = None
    is_subscribed: bool | None = None
    time_ms: int | None = None
    languages: tuple[str, ...] = ()
    page_name: str | None = None
    page_id: str | None = None
    target_name: str | None = None
    target_id: str | None = None
    failure_reason: str | None = None
    message: MessageFields = MessageFields()


def fill_blank(record: Record, remembered: MessageFields) -> Record:
    """Return a record with each absent message field filled from earlier events.

    Args:
        record: An event whose message fields may be blank.
        remembered: The fields of earlier events of the same message.

    Source: OneSignal keeps messages of its API and journeys for 30 days; later events have blank
    message fields (Event Streams, 2026).
    """
    return record._replace(message=complete(record.message, remembered))


def complete(message: MessageFields, further: MessageFields) -> MessageFields:
    """Return a message's fields, the absent ones filled from further ones."""
    return further._replace(**_known(message))


def _known(message: MessageFields) -> dict[str, Any]:
    return {name: value for name, value in message._asdict().items() if value is not None}
