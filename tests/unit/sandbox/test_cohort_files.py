"""The text of cohort files."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.sandbox.cohorts.files import FileShape, UserRange, cohort_download

IDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))


@given(IDS, st.integers(0, 5), st.sampled_from(["\n", "\r\n"]))
def test_every_id_can_be_read_back(ids: list[str], empty_ids: int, line_end: str) -> None:
    """Quotes, commas and line ends do not break a row."""
    shape = FileShape.model_validate({"encoding": "plain", "line_end": line_end})
    text = b"".join(cohort_download(tuple(ids), empty_ids, shape).encoded()).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["amplitude_id", "user_id"]
    assert [row[1] for row in rows[1:] if row[1]] == ids
    assert sum(not row[1] for row in rows[1:]) == empty_ids
    numbers = [int(row[0]) for row in rows[1:]]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("rows", [0, 1, 4_096, 4_097])
def test_a_factory_is_called_again_for_each_file(rows: int) -> None:
    """Two downloads of one export are equal."""
    file = cohort_download(lambda: (f"u{n}" for n in range(rows)), 0, FileShape(encoding="plain"))
    first = b"".join(file.encoded())
    assert first == b"".join(file.encoded())
    assert first.count(b"\n") == rows + 1


def test_a_range_knows_its_length() -> None:
    """Also when it is empty."""
    assert list(UserRange("u-", 2, 4)) == ["u-2", "u-3"]
    assert (len(UserRange("u-", 2, 4)), len(UserRange("u-", 4, 2))) == (2, 0)
