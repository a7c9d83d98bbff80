"""The file of a cohort: bytes to user ids.

Source: Amplitude says nothing of the format; readers in public code agree on CSV with the columns
`amplitude_id` and `user_id`, the latter empty for users who were never identified.
"""

from collections.abc import Iterator

from relay.upstream.csv_rows import CsvReader, Row
from relay.upstream.gunzip import Gunzip

_ADVICE = "It has to be Amplitude's export of a cohort of users."


class CohortFile:
    """Reads the user ids of a cohort's file as it arrives, repeated ones too.

    Attributes:
        rows: Rows so far, those without a user id included.
        empty_ids: Rows so far without a user id, or with one that cannot be kept.
    """

    def __init__(self) -> None:
        self._unpacker = Gunzip()
        self._table = CsvReader(required=["user_id"], advice=_ADVICE)
        self.rows = 0
        self.empty_ids = 0

    def feed(self, chunk: bytes) -> Iterator[list[str]]:
        """Yield the user ids in the file's next bytes, some thousand at a time.

        Args:
            chunk: Raw bytes, compressed or not.

        Raises:
            FileRejected: If it is not such a file.
        """
        for piece in self._unpacker.feed(chunk):
            if ids := self._ids(self._table.feed(piece)):
                yield ids

    def finish(self) -> list[str]:
        """Return the user id on the last line, if no line end follows it.

        Raises:
            FileRejected: If the file is not whole, or not such a file.
        """
        self._unpacker.finish()
        return self._ids(self._table.finish())

    def _ids(self, rows: list[Row]) -> list[str]:
        # U+0000 ends a text in SQLite's JSON: the id would become another user's.
        ids = [
            user_id
            for (user_id,) in rows
            if user_id and not user_id.isspace() and "\0" not in user_id
        ]
        self.rows += len(rows)
        self.empty_ids += len(rows) - len(ids)
        return ids
