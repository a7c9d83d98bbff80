"""CSV to rows of the wanted columns, piece by piece.

Whole rows go to the `csv` module; the rest of a piece waits for the next one. A byte order mark is
removed, and one TAB before each name and value.

Source: RFC 4180 for quoting; for the TABs Amplitude's own reader of such files (the cohort client
of its evaluation proxy, 2023).
"""

import codecs
import csv
import io
from collections.abc import Sequence
from typing import Final, TypeAlias

from relay.errors import FileRejected

Row: TypeAlias = tuple[str, ...]
"""The wanted columns in the order they were named; a missing optional one is empty."""

MAX_ROW_CHARACTERS: Final = 1_048_576
"""A longer row is an attack or no table; `csv.field_size_limit()` bounds a field."""

_ILL_FORMED: Final = "is not well-formed, or has a huge field"
_OTHER_FORMATS: Final = {"<": "a web page or XML", "{": "JSON", "[": "JSON"}


class CsvReader:
    """Reads the rows of a CSV file as it arrives.

    Columns are found by their names, in any order. Blank lines are skipped.

    Attributes:
        ends_mid_line: Whether no line end follows the last line; known after `finish`.
    """

    def __init__(
        self, *, required: Sequence[str], optional: Sequence[str] = (), advice: str = ""
    ) -> None:
        """Make a reader of these columns.

        Args:
            required: Names of columns without which the file is rejected.
            optional: Names of columns that may be missing.
            advice: Ends the error about missing columns: which file is expected.
        """
        self._required = required
        self._optional = optional
        self._advice = advice
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._rest = ""
        self._is_quoted = False
        self._width = 0
        self._places: list[int] | None = None
        self.ends_mid_line = False

    def feed(self, piece: bytes) -> list[Row]:
        """Return the rows that end in the next bytes of the file.

        Pieces should be of 64 KiB at most: one call blocks in proportion to its piece.

        Raises:
            FileRejected: `not_utf8`, `not_csv`, `wrong_columns` or `broken_row`.
        """
        text = self._rest + self._decode(piece)
        # Only a line end among the new bytes can complete a row; the rest is not searched again.
        end = text.rfind("\n", len(self._rest)) + 1
        if self._places is None:
            self._look_at_beginning(text.lstrip()[:1])
        rows, left = _parse(text[:end]) if end else ([], "")
        self._rest = left + text[end:]
        if len(self._rest) > MAX_ROW_CHARACTERS:
            raise _broken_row(f"has more than {MAX_ROW_CHARACTERS} characters or an open quote")
        return self._select(rows, has_tabs="\t" in text)

    def finish(self) -> list[Row]:
        """Return the row that ends with the file itself, if one does.

        Raises:
            FileRejected: `empty`, `truncated`, `not_csv`, `wrong_columns` or `broken_row`.
        """
        text = self._rest + self._decode(b"", is_last=True)
        self.ends_mid_line = bool(text)
        rows, left = _parse(text)
        if left and left.count('"') % 2 == 0:
            raise _broken_row(_ILL_FORMED)
        is_short = self._places is not None and any(len(row) < self._width for row in rows)
        # In a file with quotes around every field, nothing after a comma means a lost field.
        if left or is_short or (self._is_quoted and text.endswith(",")):
            raise FileRejected("truncated", "The file ends in the middle of a row.")
        selected = self._select(rows, has_tabs="\t" in text)
        if self._places is None:
            raise FileRejected("empty", "The file is empty; a table has at least a header.")
        return selected

    def _look_at_beginning(self, first: str) -> None:
        """Reject files of other formats by their first character."""
        self._is_quoted = first == '"'
        if found := _OTHER_FORMATS.get(first):
            raise FileRejected("not_csv", f"The file is {found}, not CSV.")

    def _decode(self, piece: bytes, *, is_last: bool = False) -> str:
        try:
            return self._decoder.decode(piece, is_last)
        except UnicodeDecodeError as error:
            if is_last:
                detail = "The file ends in the middle of a character."
                raise FileRejected("truncated", detail) from error
            raise FileRejected("not_utf8", "The file is not UTF-8 text.") from error

    def _select(self, rows: list[list[str]], *, has_tabs: bool) -> list[Row]:
        if self._places is None:
            if not rows:
                return []
            self._places = self._read_header(rows.pop(0))
        if any(len(row) != self._width for row in rows):
            raise _broken_row("has another number of fields than the header")
        places = self._places
        if self._width in places:
            for row in rows:
                row.append("")
        if has_tabs:
            return [tuple([row[place].removeprefix("\t") for place in places]) for row in rows]
        if len(places) == 1:
            place = places[0]
            return [(row[place],) for row in rows]
        return [tuple([row[place] for place in places]) for row in rows]

    def _read_header(self, header: list[str]) -> list[int]:
        """Return the places of the wanted columns; those that are missing come after the last."""
        names = [name.removeprefix("\t") for name in header]
        if missing := [name for name in self._required if name not in names]:
            columns = "column" if len(missing) == 1 else "columns"
            detail = f"The file lacks the {columns} {', '.join(missing)}. {self._advice}"
            raise FileRejected("wrong_columns", detail.rstrip())
        self._width = len(names)
        wanted = (*self._required, *self._optional)
        return [names.index(name) if name in names else len(names) for name in wanted]


def _parse(text: str) -> tuple[list[list[str]], str]:
    """Return the rows of a text, and what follows the last one that is whole."""
    try:
        rows = list(csv.reader(_lines(text), strict=True))
    except csv.Error:
        return _parse_whole_rows(text)
    return [row for row in rows if row], ""


def _parse_whole_rows(text: str) -> tuple[list[list[str]], str]:
    """Do the same for a text with a last row that is not whole, or with a broken row."""
    source = _lines(text)
    reader = csv.reader(source, strict=True)
    rows: list[list[str]] = []
    lines_read = 0
    try:
        for row in reader:
            lines_read = reader.line_num
            if row:
                rows.append(row)
    except csv.Error as error:
        # An open quote, which more text may close, fails at the end of the text only.
        if source.readline():
            raise _broken_row(_ILL_FORMED) from error
    return rows, "".join(list(_lines(text))[lines_read:])


def _lines(text: str) -> io.StringIO:
    """Return what iterates over lines that end with LF, and keeps every character."""
    return io.StringIO(text, newline="\n")


def _broken_row(what: str) -> FileRejected:
    return FileRejected("broken_row", f"A row of the file {what}.")
