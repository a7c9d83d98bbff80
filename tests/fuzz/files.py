"""Promises for any file and any compressed body, whole or in pieces."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from aiohttp import web

from relay.amplitude.cohort_file import CohortFile
from relay.errors import FileRejected, PayloadError
from relay.http.server.body import MAX_BODY_BYTES, MAX_GZIP_MEMBERS, decompress
from relay.onesignal.export_file import SubscriptionRow, SubscriptionsFile
from tests.fuzz.reasons import known

REASONS: Final = {
    *("truncated", "broken_gzip", "not_utf8", "not_csv", "wrong_columns", "broken_row", "empty"),
}
PIECES_BYTES: Final = (1, 7, 1000)
SMALL_BYTES: Final = 2_000

Item = TypeVar("Item")


class Reader(Protocol[Item]):
    """Either kind of file, as it arrives."""

    def feed(self, chunk: bytes) -> Iterator[list[Item]]:
        """Yield what the next bytes contain."""

    def finish(self) -> list[Item]:
        """Return what the end of the file contains."""


def check_members(data: bytes) -> None:
    """A cohort's file yields storable ids, the same ones however it is split."""
    ids = _same_in_pieces(CohortFile, data)
    file = CohortFile()
    if ids is not None:
        assert _read(file, data, len(data) or 1) == ids
        assert file.rows == len(ids) + file.empty_ids
    for user_id in ids or []:
        _check_id(user_id)


def check_export(data: bytes) -> None:
    """OneSignal's export yields storable subscriptions, however it is split."""
    rows = _same_in_pieces(SubscriptionsFile, data)
    file = SubscriptionsFile()
    if rows is not None:
        assert _read(file, data, len(data) or 1) == rows
        assert file.rows == len(rows) + file.broken_rows
    for row in rows or []:
        _check_row(row)


def check_gzip(data: bytes) -> None:
    """What the doors decompress equals what gzip decompresses, or is rejected."""
    try:
        assert decompress(gzip.compress(data, 1)) == data
        content = decompress(data)
    except PayloadError as error:
        known(error.reason, {"broken_gzip"})
        _check_refusal(data)
    except web.HTTPRequestEntityTooLarge:
        pass
    else:
        assert len(content) <= MAX_BODY_BYTES
        assert content == gzip.decompress(data)


def _check_refusal(data: bytes) -> None:
    """Only what gzip rejects is rejected, except many members and trailing zeros."""
    with suppress(EOFError, OSError, zlib.error):
        gzip.decompress(data)
        is_odd = data.endswith(b"\0") or data.count(b"\x1f\x8b") > MAX_GZIP_MEMBERS
        assert not data or is_odd, "a sound body was refused"


def _same_in_pieces(kind: type[Reader[Item]], data: bytes) -> list[Item] | None:
    """Return the items of a file, None if rejected, however it is split."""
    whole = _read(kind(), data, len(data) or 1)
    sizes = PIECES_BYTES if len(data) <= SMALL_BYTES else PIECES_BYTES[-1:]
    for size in sizes:
        assert _read(kind(), data, size) == whole
    if not data.startswith(b"\x1f"):
        assert _read(kind(), gzip.compress(data, 1), 1000) == whole
    return whole


def _read(file: Reader[Item], data: bytes, piece_bytes: int) -> list[Item] | None:
    items: list[Item] = []
    try:
        for at in range(0, len(data), piece_bytes):
            for some in file.feed(data[at : at + piece_bytes]):
                items += some
        return items + file.finish()
    except FileRejected as error:
        known(error.reason, REASONS)
        return None


def _check_row(row: SubscriptionRow) -> None:
    _check_id(row.id)
    if row.external_id is not None:
        _check_id(row.external_id)
    row.type.encode()


def _check_id(text: str) -> None:
    assert text
    assert not text.isspace()
    assert "\0" not in text
    text.encode()
