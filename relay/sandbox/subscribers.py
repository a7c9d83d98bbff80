"""The subscriptions of a OneSignal app, as its export lists them: one a row."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

EMAIL: Final = 11
SMS: Final = 14
ANDROID: Final = 1
DEVICE_TYPES: Final = {
    "iOS": 0,
    "Android": ANDROID,
    "Chrome": 5,
    "Firefox": 8,
    "Email": EMAIL,
    "Huawei": 13,
    "SMS": SMS,
    "Safari": 17,
}
"""Label in Event Streams to number in the export.

Source: OneSignal REST reference and Event Streams page, 2026.
"""


class Subscriber(NamedTuple):
    """One subscription.

    Attributes:
        external_id: Its user's id; None = an anonymous user.
        subscription_id: Its id.
        device_type: OneSignal's number.
        is_subscribed: Whether it can be sent to.
    """

    external_id: str | None
    subscription_id: str
    device_type: int = ANDROID
    is_subscribed: bool = True


Row: TypeAlias = Subscriber | tuple[str | None, str, int, bool]
Subscribers: TypeAlias = tuple[Row, ...] | Callable[[], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class SubscriberRange:
    """As many users as wanted, without a list of them; a factory of rows.

    Attributes:
        prefix: What each external id begins with.
        start: Number of the first user.
        stop: The number after the last.
        email_every: Each so many-th user has an e-mail subscription too; 0 = none.
        unsubscribed_every: The push subscription of each so many-th is off; 0 = none.
    """

    prefix: str = "user-"
    start: int = 0
    stop: int = 1_000
    email_every: int = 0
    unsubscribed_every: int = 0

    def __call__(self) -> Iterator[Row]:
        """Yield the rows from the beginning."""
        email, off = self.email_every, self.unsubscribed_every
        for number in range(self.start, self.stop):
            name = f"{self.prefix}{number}"
            tail, is_on = f"4000-8000-{number:012x}", not _hits(number, off)
            yield name, f"{number:08x}-0001-{tail}", ANDROID, is_on
            if _hits(number, email):
                yield name, f"{number:08x}-000b-{tail}", EMAIL, True


def _hits(number: int, every: int) -> bool:
    return every > 0 and number % every == 0
