"""CSV rows: the same as the `csv` module gives, however the file is split."""

import csv
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FileRejected
from relay.upstream.csv_rows import MAX_ROW_CHARACTERS, CsvReader, Row

HEADER = b'"amplitude_id","user_id"\n'

CELLS = st.text(st.sampled_from('ab ,"\n\r\t\u00e9\u20ac\U0001f600'), max_size=6)


def _read(*pieces: bytes, reader: CsvReader | None = None) -> list[Row]:
    reader = reader or CsvReader(required=["user_id"])
    rows = [row for piece in pieces for row in reader.feed(piece)]
    return rows + reader.finish()


def _rejected(*pieces: bytes) -> FileRejected:
    with pytest.raises(FileRejected) as caught:
        _read(*pieces)
    return caught.value


def _written(rows: list[list[str]], line_end: str, *, quoting: int = csv.QUOTE_ALL) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows(rows)
    return text.getvalue()


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@st.composite
def _tables(draw: st.DrawFn, cells: st.SearchStrategy[str] = CELLS) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    names = [f"column {number}" for number in range(width)]
    return [names, *draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=8))]


@given(
    table=_tables(),
    line_end=st.sampled_from(["\n", "\r\n"]),
    has_bom=st.booleans(),
    is_closed=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_any_split_gives_the_rows_of_the_csv_module(
    table: list[list[str]],
    line_end: str,
    has_bom: bool,  # noqa: FBT001
    is_closed: bool,  # noqa: FBT001
    cuts: list[int],
) -> None:
    """Chunks end inside characters, quotes, line ends and the byte order mark."""
    text = _written(table, line_end)
    data = (text if is_closed else text.removesuffix(line_end)).encode("utf-8")
    reader = CsvReader(required=table[0])
    rows = _read(*_split(b"\xef\xbb\xbf" * has_bom + data, cuts), reader=reader)
    expected = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert rows == [tuple(cell.removeprefix("\t") for cell in row) for row in expected]


@given(
    table=_tables(st.text(st.sampled_from("ab,\n \u20ac"), max_size=6)),
    cut=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 10_000), max_size=4),
)
def test_a_truncated_file_is_detected_or_yields_whole_rows(
    table: list[list[str]], cut: int, cuts: list[int]
) -> None:
    """Half a row is never accepted, as long as fields are quoted."""
    data = _written(table, "\n").encode()
    reader = CsvReader(required=table[0])
    try:
        rows = _read(*_split(data[: cut % len(data)], cuts), reader=reader)
    except FileRejected:
        return
    assert rows == [tuple(row) for row in table[1:]][: len(rows)]


@given(data=st.binary(max_size=60) | st.text('ab,"\n\r\t<{', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    """Any file is read or rejected."""
    try:
        rows = _read(HEADER, *_split(data, [7, 23]))
    except FileRejected:
        return
    assert all(len(row) == 1 for row in rows)


def test_columns_are_found_by_name() -> None:
    """Their order and other columns do not matter."""
    reader = CsvReader(required=["user_id", "id"], optional=["type", "city"])
    data = b"type,x,id,user_id\r\n5,.,i1,u1\r\n,.,i2,\r\n"
    assert _read(data, reader=reader) == [("u1", "i1", "5", ""), ("", "i2", "", "")]


def test_one_leading_tab_is_removed_from_names_and_values() -> None:
    """A second one belongs to the value, and so does one inside it."""
    data = b'"\tamplitude_id","\tuser_id"\n"\t1","\ta"\n"\t2","\t\tb"\n"3","c\td"\n'
    assert _read(data) == [("a",), ("\tb",), ("c\td",)]


def test_a_header_alone_is_a_table_without_rows() -> None:
    """A cohort may be empty."""
    assert _read(HEADER) == _read(HEADER.rstrip()) == []


def test_blank_lines_are_no_rows() -> None:
    """A file may end with several line ends."""
    assert _read(b"\n" + HEADER + b'\r\n"1","a"\n\n\n') == [("a",)]


def test_the_first_of_two_columns_of_a_name_counts() -> None:
    """A user property may be named like the id; the id comes first."""
    assert _read(b"user_id,user_id\na,b\n") == [("a",)]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n", b"\r\n\r\n"])
def test_an_empty_file_is_no_table(data: bytes) -> None:
    """An export that failed must not look like a cohort without members."""
    assert _rejected(data).reason == "empty"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"<!DOCTYPE html>\n<html></html>\n", "web page"),
        (b"\xef\xbb\xbf  <?xml version='1.0'?><Error/>", "web page"),
        (b'{"error":{"http_code":500}}', "JSON"),
        (b'\n[{"user_id":"a"}]\n', "JSON"),
    ],
)
def test_other_formats_are_named(data: bytes, word: str) -> None:
    """A sign-in page or an error with status 200 is no table."""
    error = _rejected(data)
    assert error.reason == "not_csv"
    assert word in error.detail


def test_missing_columns_are_named_and_the_files_own_are_not() -> None:
    """The wanted names are ours; the file's may be anyone's data."""
    reader = CsvReader(required=["id", "user_id", "x"], advice="It has to be a good file.")
    with pytest.raises(FileRejected) as caught:
        _read(b"x,maya@example.com\n1,2\n", reader=reader)
    assert caught.value.reason == "wrong_columns"
    assert (
        caught.value.detail == "The file lacks the columns id, user_id. It has to be a good file."
    )
    assert _rejected(b"id\n").detail == "The file lacks the column user_id."


@pytest.mark.parametrize(
    "data",
    [
        HEADER + b'"1","a"\n"2"\n"3","c"\n',
        HEADER + b'"1","a","?"\n',
        HEADER + b'"1","a","?"',
        HEADER + b'"1"?,"a"\n"2","b"\n',
        HEADER + b'"1","a"\r"2","b"\n',
        HEADER + b'"1","' + b"x" * 200_000 + b'"\n"2","b"\n',
        HEADER + b'"1","' + b"x" * (MAX_ROW_CHARACTERS + 1),
        HEADER + b'"1","' + b"x,\n" * (MAX_ROW_CHARACTERS // 3 + 1),
    ],
    ids=["short", "long", "long end", "quote", "cr", "huge field", "huge row", "open quote"],
)
def test_a_broken_row_rejects_the_file(data: bytes) -> None:
    """The parser never guesses: the file could be an attack."""
    pieces = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    assert _rejected(*pieces).reason == "broken_row"


@pytest.mark.parametrize(
    "tail",
    [b'"1"', b'"1",', b'"1","a', b'"1","a\n', b'"1","a""', b'"1","a"\n"2', b'"1","\xe2\x82'],
)
def test_a_file_that_ends_inside_a_row_is_truncated(tail: bytes) -> None:
    """A missing field, an open quote, half a character."""
    assert _rejected(HEADER + tail).reason == "truncated"


def test_an_empty_field_may_end_a_file_that_does_not_quote() -> None:
    """There it is the usual spelling; in a quoted file it would be half a quote."""
    assert _read(b"amplitude_id,user_id\n1,") == [("",)]
    assert _read(HEADER + b'"1",""') == [("",)]


def test_a_whole_last_line_needs_no_line_end() -> None:
    """RFC 4180 makes the last one optional."""
    assert _read(HEADER + b'"1","a"\n"2","b"') == [("a",), ("b",)]


def test_other_encodings_are_rejected() -> None:
    """Decoded as Latin-1 or UTF-16, ids would be other users'."""
    assert _rejected(HEADER + b'"1","caf\xe9"\n').reason == "not_utf8"
    assert _rejected('"amplitude_id","user_id"\n'.encode("utf-16")).reason == "not_utf8"


def test_quotes_inside_bare_fields_are_kept() -> None:
    """RFC 4180 forbids them, many programs write them."""
    assert _read(HEADER + b'1,15" screen\n2,b\n') == [('15" screen',), ("b",)]


def test_bare_quotes_before_an_open_field_are_kept_too() -> None:
    """The chunk boundaries must not decide whether a file is accepted."""
    data = HEADER + b'1,a\n\n15" screen,"b\nc"\n'
    for cut in range(len(data)):
        assert _read(data[:cut], data[cut:]) == [("a",), ("b\nc",)]
