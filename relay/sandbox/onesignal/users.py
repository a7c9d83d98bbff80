"""The users of the traffic and their subscriptions; some of their ids are awkward."""

from dataclasses import dataclass
from random import Random
from typing import Final

from relay.sandbox.common.target import new_uuid

LANGUAGES: Final = ("en", "de", "fr", "zh-Hant", "ar")
_PUSH_DEVICES: Final = ("iOS", "Android", "Chrome", "Firefox", "Safari", "Huawei")
_AWKWARD_IDS: Final = ("42", "7", "1000003", "zoë-東京", 'o\'neil "x"', "undefined", "")
_AWKWARD_EVERY: Final = 4
_EMAIL_SHARE: Final = 0.5
_SMS_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Subscription:
    """One device or address.

    Attributes:
        subscription_id: Its id.
        device_type: OneSignal's label.
        channels: What can be sent to it.
        language: Language of the device; may be empty.
    """

    subscription_id: str
    device_type: str
    channels: tuple[str, ...]
    language: str


@dataclass(frozen=True, slots=True)
class User:
    """One user.

    Attributes:
        onesignal_id: OneSignal's id.
        external_id: The app's id; empty for an anonymous user.
        language: Language of the user.
        subscriptions: At least one.
    """

    onesignal_id: str
    external_id: str
    language: str
    subscriptions: tuple[Subscription, ...]


def make_users(count: int, rng: Random) -> list[User]:
    """Return `count` users; two already cover all channels."""
    return [_make_user(number, rng) for number in range(count)]


def _make_user(number: int, rng: Random) -> User:
    language = rng.choice(LANGUAGES)
    devices = [_push_device(rng, language) for _ in range(rng.randint(1, 3))]
    if number % 2 or rng.random() < _EMAIL_SHARE:
        devices.append(Subscription(new_uuid(rng), "Email", ("email",), ""))
    if number % 2 or rng.random() < _SMS_SHARE:
        devices.append(Subscription(new_uuid(rng), "SMS", ("sms",), ""))
    return User(new_uuid(rng), _external_id(number), language, tuple(devices))


def _external_id(number: int) -> str:
    """Return the app's id; every fourth is awkward, and empty once those are used up."""
    turn, rest = divmod(number, _AWKWARD_EVERY)
    if rest != _AWKWARD_EVERY - 1:
        return f"user-{10_000 + number}"
    return _AWKWARD_IDS[turn] if turn < len(_AWKWARD_IDS) else ""


def _push_device(rng: Random, language: str) -> Subscription:
    device_type = rng.choice(_PUSH_DEVICES)
    return Subscription(new_uuid(rng), device_type, ("push", "iam", "live_activity"), language)
