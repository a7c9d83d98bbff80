"""Campaigns as OneSignal would report them: seeded, endless, in the raw shape.

A message goes to several subscriptions, and at each of them a plausible chain of events
follows. Every chain appears once at the beginning, so that a short run shows every kind.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Final, TypeAlias

from relay.events.catalog import KINDS
from relay.sandbox.common.target import new_uuid
from relay.sandbox.onesignal.users import Subscription, User, make_users

RawEvent: TypeAlias = dict[str, dict[str, object]]

CHAINS: Final[tuple[tuple[str, tuple[str, ...], int], ...]] = (
    ("push", ("sent", "received", "clicked"), 20),
    ("push", ("sent", "received"), 40),
    ("push", ("sent",), 20),
    ("push", ("failed",), 2),
    ("push", ("sent", "unsubscribed"), 2),
    ("iam", ("impression",), 15),
    ("iam", ("impression", "page_displayed", "page_displayed", "clicked"), 6),
    ("email", ("sent", "received", "opened", "opened", "clicked"), 15),
    ("email", ("sent", "received", "opened", "unsubscribed"), 3),
    ("email", ("sent", "received", "reported_as_spam"), 1),
    ("email", ("sent", "bounced"), 2),
    ("email", ("failed",), 1),
    ("email", ("suppressed",), 1),
    ("sms", ("sent", "delivered"), 8),
    ("sms", ("sent", "undelivered"), 1),
    ("sms", ("failed",), 1),
    ("live_activity", ("sent", "delivered", "clicked"), 3),
    ("live_activity", ("sent", "unsubscribed"), 1),
    ("live_activity", ("failed",), 1),
)
_OFFERS: Final = (
    ("Flash sale", "20% off everything until Sunday, only in the app a"),
    ("Don't miss it", 'Your "favourites" are back in stock, come and see '),
    ("Order update 📦", "Your parcel arrives between 14:00 and 16:00. Reply"),
    ("Weekly digest\u2028news", "Line one\nand line two with a backslash \\ in it. Th"),
)
_TRANSLATIONS: Final = {
    "de": ("Frohes neues Jahr", "20% auf alles"),
    "fr": ("Aujourd'hui seulement", "C'est l'été, profitez-en"),
    "zh-Hant": ("限時特賣", "全館八折"),
}
_FAILURES: Final = ("invalid device token", 'provider said: "mailbox full"')
_PAGE_ID: Final = "8f2e1d0c-5b4a-4998-a877-66554433221{}"
_TARGET: Final = {"target_name": "cta-upgrade", "target_id": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d"}
_TEMPLATE_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class TrafficOptions:
    """What the traffic is about.

    Attributes:
        app_id: OneSignal app that the events name.
        kinds: Kinds that are sent; others are missing from their chains.
        users: Number of users.
        starts_at: Time of the first event, UTC epoch milliseconds.
    """

    app_id: str
    kinds: Collection[str] = KINDS
    users: int = 50
    starts_at: int = 1_767_261_906_412


class Traffic:
    """An endless source of events; the same seed gives the same events."""

    def __init__(self, options: TrafficOptions, rng: Random) -> None:
        self._options = options
        self._rng = rng
        self._users = make_users(max(2, options.users), rng)
        self._at_ms = options.starts_at

    def take(self, count: int) -> list[RawEvent]:
        """Return the next `count` events."""
        return list(islice(self.events(), count))

    def events(self) -> Iterator[RawEvent]:
        """Yield events without end.

        Raises:
            ValueError: If none of the wanted kinds exists.
        """
        wanted = [chain for chain in CHAINS if self._is_wanted(chain[0], chain[1])]
        if not wanted:
            raise ValueError("none of these kinds is ever sent")
        # Every chain once before chance decides: rare kinds must not need a long run.
        first = self._rng.sample(wanted, len(wanted))
        for channel, steps, _ in first:
            yield from self._campaign(channel, steps, recipients=1)
        weights = [weight for _, _, weight in wanted]
        while True:
            channel, steps, _ = self._rng.choices(wanted, weights)[0]
            yield from self._campaign(channel, steps, recipients=self._rng.randint(1, 4))

    def _is_wanted(self, channel: str, steps: tuple[str, ...]) -> bool:
        return any(f"message.{channel}.{step}" in self._options.kinds for step in steps)

    def _campaign(
        self, channel: str, steps: tuple[str, ...], recipients: int
    ) -> Iterator[RawEvent]:
        message = self._message(channel)
        reachable = [
            (user, subscription)
            for user in self._users
            for subscription in user.subscriptions
            if channel in subscription.channels
        ]
        for user, subscription in self._rng.choices(reachable, k=recipients):
            shared = self._data(channel)
            for position, step in enumerate(steps):
                kind = f"message.{channel}.{step}"
                if kind in self._options.kinds:
                    data = shared | (_page(step, position) if channel == "iam" else {})
                    yield {
                        "event": self._event(kind, user, subscription, data),
                        "message": dict(message),
                        "user": _user(user, subscription),
                    }

    def _event(
        self, kind: str, user: User, subscription: Subscription, data: dict[str, object]
    ) -> dict[str, object]:
        self._at_ms += self._rng.randint(1, 400)
        if kind.endswith((".push.failed", ".email.failed")):
            data["failure_reason"] = self._rng.choice(_FAILURES)
        return {
            "kind": kind,
            "id": new_uuid(self._rng),
            "timestamp": self._at_ms // 1000,
            "datetime": _iso(self._at_ms),
            "app_id": self._options.app_id,
            "subscription_device_type": subscription.device_type,
            "subscription_id": subscription.subscription_id,
            "onesignal_id": user.onesignal_id,
            "external_id": user.external_id,
            "data": data,
        }

    def _data(self, channel: str) -> dict[str, object]:
        """Return what all events of one chain share in `event.data`."""
        if channel != "live_activity":
            return {}
        number = self._rng.randint(1, 9_999)
        return {"live_activity_id": f"order-{number}", "live_activity_type": "order_tracking"}

    def _message(self, channel: str) -> dict[str, object]:
        title, contents = self._rng.choice(_OFFERS)
        languages = self._rng.sample(sorted(_TRANSLATIONS), self._rng.randint(0, 2))
        titles = {"en": title, **{name: _TRANSLATIONS[name][0] for name in languages}}
        texts = {"en": contents, **{name: _TRANSLATIONS[name][1] for name in languages}}
        message: dict[str, object] = {"id": new_uuid(self._rng), "name": f"{channel} {title}"}
        if channel == "push":
            message |= {"title": titles, "contents": texts}
            message |= {"app_url": "shop://offers/ny", "web_url": "https://shop.example/ny"}
        elif channel == "sms":
            message |= {"contents": texts, "url": "https://shop.example/s?a=1&b=2"}
        elif channel == "email":
            message["title"] = title
        elif channel == "live_activity":
            message["live_activity_event_kind"] = self._rng.choice(("start", "update", "end"))
        if self._rng.random() < _TEMPLATE_SHARE:
            message["template_id"] = new_uuid(self._rng)
        return message


def _page(step: str, position: int) -> dict[str, object]:
    """Return the card an in-app step is about; an impression is about none."""
    if step == "impression":
        return {}
    page: dict[str, object] = {
        "page_name": f"Card {position}",
        "page_id": _PAGE_ID.format(position),
    }
    return page | _TARGET if step == "clicked" else page


def _user(user: User, subscription: Subscription) -> dict[str, object]:
    return {
        "onesignal_id": user.onesignal_id,
        "external_id": user.external_id,
        "language": user.language,
        "tags": {"plan": "pro"},
        "subscription": {
            "id": subscription.subscription_id,
            "language": subscription.language,
            "subscribed": True,
        },
    }


def _iso(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
