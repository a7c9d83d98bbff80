"""The subscriptions of a OneSignal app, and the CSV files it exports them in: one row each.

Source: OneSignal "CSV export" reference, 2026; files described in public clients.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import md5
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from relay.sandbox.common.replies import SIGN_IN_PAGE, Cut, Download, Encoding

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
        is_subscribed: Whether it receives messages.
    """

    external_id: str | None
    subscription_id: str
    device_type: int = ANDROID
    is_subscribed: bool = True


Row: TypeAlias = Subscriber | tuple[str | None, str, int, bool]
Subscribers: TypeAlias = tuple[Row, ...] | Callable[[], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class SubscriberRange:
    """Any number of users without a list of them; a factory of rows.

    Attributes:
        prefix: Start of each external id.
        start: Number of the first user.
        stop: The number after the last.
        email_every: Every n-th user also has an e-mail subscription; 0 = none.
        unsubscribed_every: The push subscription of every n-th user is off; 0 = none.
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
            tail, is_on = f"4000-8000-{number:012x}", not _is_nth(number, off)
            yield name, f"{number:08x}-0001-{tail}", ANDROID, is_on
            if _is_nth(number, email):
                yield name, f"{number:08x}-000b-{tail}", EMAIL, True


def _is_nth(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


COLUMNS: Final = (
    "id", "identifier", "session_count", "language", "timezone", "game_version", "device_os",
    "device_type", "device_model", "ad_id", "tags", "last_active", "playtime", "amount_spent",
    "created_at", "invalid_identifier",
)  # fmt: skip
ExtraField = Literal[
    "external_user_id", "onesignal_id", "location", "country", "rooted", "ip", "web_auth",
    "web_p256", "unsubscribed_at", "notification_types", "timezone_id",
]  # fmt: skip
_CREATED: Final = {"text": "2025-03-02 08:00:00", "unix": "1740902400"}
_ACTIVE: Final = {"text": "2026-01-01 10:05:06", "unix": "1767261906"}
_CONSTANT: Final = {
    "session_count": "12", "language": "en", "timezone": "3600", "game_version": "3.2.0",
    "playtime": "420", "amount_spent": "0", "badge_count": "0", "country": "DE", "rooted": "f",
    "timezone_id": "Europe/Berlin",
}  # fmt: skip
_ROWS_PER_PIECE: Final = 1_024
_SPECIAL: Final = frozenset('",\r\n')


class ExportShape(BaseModel):
    """The layout of an export, and what is wrong with it.

    Attributes:
        columns: All columns in this order; None = the documented ones, then the requested
            extra fields. Unknown names are empty.
        times: How instants are written; both were seen.
        tags: The tags of every subscription, as JSON.
        max_rows: Ends the file early, but well formed; 0 = header only.
        content: What there is instead of a table.
        encoding: How it is transferred; the usual file is compressed and does not say so.
        cut: Where it is cut; see `relay.sandbox.common.replies.Download`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] | None = None
    times: Literal["text", "unix"] = "text"
    tags: str = '{"plan":"pro, yearly"}'
    max_rows: int | None = Field(default=None, ge=0)
    content: Literal["csv", "html", "empty"] = "csv"
    encoding: Encoding = "gzip_unlabelled"
    cut: Cut | None = None


def export_download(
    subscribers: Subscribers,
    extra_fields: Iterable[ExtraField],
    shape: ExportShape,
    *,
    only_subscribed: bool = False,
) -> Download:
    """Return the file of these subscriptions."""
    columns = shape.columns or (*COLUMNS, *extra_fields)

    def pieces() -> Iterator[bytes]:
        rows = subscribers() if callable(subscribers) else subscribers
        wanted = (row for row in rows if row[3] or not only_subscribed)
        return _pieces(islice(wanted, shape.max_rows), columns, shape)

    return Download(pieces, shape.encoding, shape.cut, "application/gzip")


def _pieces(rows: Iterator[Row], columns: tuple[str, ...], shape: ExportShape) -> Iterator[bytes]:
    if shape.content != "csv":
        yield SIGN_IN_PAGE if shape.content == "html" else b""
        return
    yield (",".join(columns) + "\n").encode()
    # Constant cells are written once: a million rows must not take minutes.
    templates = {
        (kind, is_on): ",".join(_cells(columns, kind, shape, is_subscribed=is_on)) + "\n"
        for kind in range(32)
        for is_on in (True, False)
    }
    needs_user = "onesignal_id" in columns

    def write(row: Row) -> str:
        external_id, subscription_id, kind, is_subscribed = row
        return templates[kind, is_subscribed] % {
            "id": subscription_id,
            "identifier": _identifier(subscription_id, kind),
            "external_user_id": _quoted(external_id or ""),
            "onesignal_id": _onesignal_id(external_id or subscription_id) if needs_user else "",
        }

    while batch := list(islice(rows, _ROWS_PER_PIECE)):
        yield "".join(map(write, batch)).encode()


def _cells(
    columns: tuple[str, ...], kind: int, shape: ExportShape, *, is_subscribed: bool
) -> Iterator[str]:
    """Yield the constant cells, and `%(name)s` for those that vary."""
    is_address = kind in (EMAIL, SMS)
    constant = {
        **_CONSTANT,
        "device_os": "" if is_address else "17.4",
        "device_type": str(kind),
        "device_model": "" if is_address else "iPhone15,2",
        "tags": shape.tags,
        "last_active": _ACTIVE[shape.times],
        "created_at": _CREATED[shape.times],
        "invalid_identifier": "f" if is_subscribed else "t",
        "unsubscribed_at": "" if is_subscribed else _ACTIVE[shape.times],
        "notification_types": "1" if is_subscribed else "-2",
    }
    for name in columns:
        is_varying = name in ("id", "identifier", "external_user_id", "onesignal_id")
        cell = _quoted(constant.get(name, "")).replace("%", "%%")
        yield f"%({name})s" if is_varying else cell


def _identifier(subscription_id: str, kind: int) -> str:
    """Return an invented push token, e-mail address or phone number."""
    bare = subscription_id.replace("-", "")
    if kind == EMAIL:
        return f"{bare}@example.com"
    return f"+1555{bare[-7:]}" if kind == SMS else bare * 2


def _onesignal_id(seed: str) -> str:
    name = md5(seed.encode(), usedforsecurity=False).hexdigest()
    return f"{name[:8]}-{name[8:12]}-4{name[13:16]}-8{name[17:20]}-{name[20:]}"


def _quoted(cell: str) -> str:
    return cell if _SPECIAL.isdisjoint(cell) else '"' + cell.replace('"', '""') + '"'
