"""Reading the members in a cohort's file, compressed or plain."""

import gzip

import pytest

from relay.amplitude.cohort_file import CohortFile
from relay.errors import FileRejected

FILE = b'"amplitude_id","user_id"\n"1","ada"\n"2",""\n"3","li, wen"\n"4","ada"\n"5"," "\n'


def _read(*chunks: bytes) -> tuple[list[str], CohortFile]:
    file = CohortFile()
    ids = [name for chunk in chunks for some in file.feed(chunk) for name in some]
    return ids + file.finish(), file


@pytest.mark.parametrize("data", [FILE, gzip.compress(FILE)])
def test_ids_come_in_order_and_empty_ones_are_counted(data: bytes) -> None:
    """Duplicates are detected elsewhere; users without an id cannot be reached."""
    ids, file = _read(data)
    assert ids == ["ada", "li, wen", "ada"]
    assert (file.rows, file.empty_ids) == (5, 2)


def test_an_id_that_sqlite_would_cut_is_no_id() -> None:
    """Cut at U+0000 it would make another user a member."""
    ids, file = _read(b"user_id\nada\0x\nben\n\0\n")
    assert ids == ["ben"]
    assert (file.rows, file.empty_ids) == (3, 2)


def test_a_file_may_come_byte_by_byte() -> None:
    """Connections can be slow."""
    packed = gzip.compress(FILE)
    ids, file = _read(*(packed[at : at + 1] for at in range(len(packed))))
    assert (len(ids), file.rows, file.empty_ids) == (3, 5, 2)


def test_other_columns_do_not_matter() -> None:
    """Exports with properties have more columns, in any order."""
    ids, _ = _read(b'user_id,plan\nada,"a\nb"\n')
    assert ids == ["ada"]


def test_the_last_line_may_lack_its_end() -> None:
    """It counts like the others."""
    ids, file = _read(FILE, b'"6","zoe"')
    assert (ids[-1], file.rows, file.empty_ids) == ("zoe", 6, 2)


def test_a_chunk_without_ids_yields_nothing() -> None:
    """Staging need not handle empty lists."""
    file = CohortFile()
    assert list(file.feed(b'"amplitude_id","user_id"\n"1",""\n')) == []
    assert list(file.feed(b"")) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (gzip.compress(b""), "empty"),
        (gzip.compress(FILE)[:-1], "truncated"),
        (gzip.compress(FILE[:-3]), "truncated"),
        (FILE[:-3], "truncated"),
        (b'"amplitude_id","group_value"\n"1","a"\n', "wrong_columns"),
        (gzip.compress(b"<html></html>"), "not_csv"),
        (gzip.compress(FILE) + b"x", "broken_gzip"),
    ],
)
def test_an_invalid_or_truncated_file_is_rejected(data: bytes, reason: str) -> None:
    """A segment must never follow half a file."""
    with pytest.raises(FileRejected) as caught:
        _read(data)
    assert caught.value.reason == reason


def test_no_prefix_of_a_file_gives_members_it_does_not_have() -> None:
    """A truncated file yields a prefix of the right ids, or is rejected."""
    whole, _ = _read(FILE)
    for length in range(len(FILE)):
        try:
            ids, file = _read(FILE[:length])
        except FileRejected:
            continue
        assert ids == whole[: len(ids)]
        assert file.empty_ids == FILE[:length].count(b'""') + FILE[:length].count(b'" "')


def test_a_large_file_is_read_in_short_steps() -> None:
    """Other tasks run every few milliseconds, however large a chunk is."""
    rows = b"".join(b'"%d","user-%d"\n' % (number, number) for number in range(50_000))
    packed = gzip.compress(b'"amplitude_id","user_id"\n' + rows, 1)
    file = CohortFile()
    steps = [len(some) for some in file.feed(packed)]
    assert sum(steps) + len(file.finish()) == 50_000
    assert max(steps) < 6_000
