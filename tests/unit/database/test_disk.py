"""Whether there is space: found by trying, as disk figures ignore limits."""

from pathlib import Path

from relay.database.disk import has_room
from tests.support.limits import file_size_limit

LARGE_BYTES = 1 << 20


def test_there_is_space_where_a_file_can_grow(tmp_path: Path) -> None:
    """Nothing is left of the attempt."""
    assert has_room(tmp_path, LARGE_BYTES)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_counts_from_the_largest_file(tmp_path: Path) -> None:
    """The largest has to grow; a small one still could."""
    (tmp_path / "log").write_bytes(bytes(LARGE_BYTES))
    with file_size_limit(2 * LARGE_BYTES - 1):
        assert not has_room(tmp_path, LARGE_BYTES)
        assert has_room(tmp_path, LARGE_BYTES // 2)


def test_what_cannot_be_tried_is_not_called_full(tmp_path: Path) -> None:
    """A broken disk must not pass for a full one."""
    assert has_room(tmp_path / "not there", LARGE_BYTES)
