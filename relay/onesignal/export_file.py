"""The file of OneSignal's CSV export: bytes to subscriptions.

The column `identifier` holds push tokens, e-mail addresses and phone numbers; it is never read.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from relay.upstream.csv_rows import CsvReader, Row
from relay.upstream.gunzip import Gunzip

TYPE_NAMES: Final[Mapping[str, str]] = {
    "0": "iOSPush",
    "1": "AndroidPush",
    "2": "FireOSPush",
    "4": "ChromeExtensionPush",
    "5": "ChromePush",
    "6": "WindowsPush",
    "7": "SafariLegacyPush",
    "8": "FirefoxPush",
    "9": "macOSPush",
    "11": "Email",
    "13": "HuaweiPush",
    "14": "SMS",
    "17": "SafariPush",
}
"""The API's name of each `device_type` that the export writes as a number.

Source: OneSignal, its Python SDK (2026) for the names, the legacy player API for the numbers.
"""

_TYPE_OF_LABEL: Final[Mapping[str, str]] = {
    **{name.lower(): name for name in TYPE_NAMES.values()},
    "ios": "iOSPush",
    "android": "AndroidPush",
    "amazon": "FireOSPush",
    "fireos": "FireOSPush",
    "chrome": "ChromePush",
    "windows": "WindowsPush",
    "safari": "SafariPush",
    "firefox": "FirefoxPush",
    "macos": "macOSPush",
    "huawei": "HuaweiPush",
}

_REQUIRED: Final = ("id", "device_type", "invalid_identifier", "external_user_id")
_ADVICE: Final = (
    "It has to be OneSignal's CSV export of subscriptions, made with the extra field "
    "external_user_id."
)
_FALSE: Final = frozenset({"f", "false"})


class SubscriptionRow(NamedTuple):
    """A subscription of the export.

    Attributes:
        external_id: Its user, None for an anonymous one.
        id: OneSignal's id of it.
        type: The API's name of its kind.
        is_subscribed: Whether messages can be sent to it.
    """

    external_id: str | None
    id: str
    type: str
    is_subscribed: bool


class SubscriptionsFile:
    """Reads the subscriptions of an export as it arrives.

    Attributes:
        rows: Rows so far, broken ones included.
        broken_rows: Rows so far without a subscription's id, or with an id that cannot be kept.
        ends_mid_line: Whether a plain file ended without a line end, known after `finish`: it may
            have been cut there. A compressed file proves by itself that it is whole.

    Source: OneSignal, CSV export (2026): columns are to be found by name, `external_user_id` is
    there if asked for and empty for anonymous subscriptions.
    """

    def __init__(self) -> None:
        self._unpacker = Gunzip()
        self._table = CsvReader(required=_REQUIRED, optional=["notification_types"], advice=_ADVICE)
        self.rows = 0
        self.broken_rows = 0
        self.ends_mid_line = False

    def feed(self, chunk: bytes) -> Iterator[list[SubscriptionRow]]:
        """Yield the subscriptions in the file's next bytes, some hundred at a time.

        Args:
            chunk: Raw bytes, compressed or not.

        Raises:
            FileRejected: If it is not such a file.
        """
        for piece in self._unpacker.feed(chunk):
            if subscriptions := self._read(self._table.feed(piece)):
                yield subscriptions

    def finish(self) -> list[SubscriptionRow]:
        """Return the subscription on the last line, if no line end follows it.

        Raises:
            FileRejected: If the file is not whole, or not such a file.
        """
        self._unpacker.finish()
        last = self._table.finish()
        self.ends_mid_line = self._table.ends_mid_line and not self._unpacker.is_gzip
        return self._read(last)

    def _read(self, rows: list[Row]) -> list[SubscriptionRow]:
        subscriptions = [
            SubscriptionRow(
                None if not external_id or external_id.isspace() else external_id,
                id_,
                TYPE_NAMES.get(device_type, device_type),
                invalid.lower() in _FALSE and _allows(notification_types),
            )
            for id_, device_type, invalid, external_id, notification_types in rows
            # U+0000 ends a text in SQLite's JSON: the id would become another one.
            if id_ and not id_.isspace() and "\0" not in id_ and "\0" not in external_id
        ]
        self.rows += len(rows)
        self.broken_rows += len(rows) - len(subscriptions)
        return subscriptions


def type_of_label(label: str) -> str:
    """Return the API's name of the kind of subscription that an event's label means.

    An unknown label is passed through: OneSignal adds new ones without notice.

    Args:
        label: `subscription_device_type` of Event Streams, in any case.

    Source: OneSignal, Event Streams data reference (2026) for iOS, Android, Chrome, Email and SMS;
    it does not list the others, which are read as the words they are.
    """
    return _TYPE_OF_LABEL.get(label.strip().lower(), label)


def _allows(notification_types: str) -> bool:
    """Return whether the user's choice, as OneSignal writes it, allows messages.

    Source: OneSignal, subscriptions (2026): above 0 means subscribed, iOS may add up bits.
    """
    if notification_types in ("", "1"):
        return True
    is_whole = notification_types.isascii() and notification_types.isdecimal()
    return is_whole and notification_types.strip("0") != ""
