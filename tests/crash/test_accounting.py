"""The accounting itself: whatever is missing or there twice, it says so."""

from dataclasses import replace

import pytest

from tests.crash.accounting import Books, breaks, changes, imbalances, regressions, untruths
from tests.support.daemons import Standing

BOOKS = Books(
    attempted={"a", "b", "c", "d"}, acknowledged={"a", "b", "c"}, held=["a", "b", "d"], dead=["c"]
)
STANDING = Standing(
    accepted=4,
    pending=0,
    in_flight=0,
    delivered=3,
    dead=1,
    discarded=0,
    duplicate=2,
    filtered=0,
    quarantined=5,
)


def test_books_that_balance_are_left_in_peace() -> None:
    """An event that was stored but whose answer was lost may well be delivered."""
    assert imbalances(BOOKS) == []
    assert untruths(STANDING, BOOKS) == []
    assert breaks(STANDING) == []
    assert regressions(STANDING, STANDING) == []
    assert changes(STANDING, STANDING) == []


@pytest.mark.parametrize(
    ("books", "sentence"),
    [
        (replace(BOOKS, held=["a", "d"]), "b is lost"),
        (replace(BOOKS, dead=[]), "c is lost"),
        (replace(BOOKS, held=["a", "b", "d", "b"]), "b is counted more than once"),
        (replace(BOOKS, dead=["c", "c"]), "c is dead more than once"),
        (replace(BOOKS, held=["a", "b", "d", "e"]), "e is out of nowhere"),
    ],
)
def test_a_wrong_book_is_found(books: Books, sentence: str) -> None:
    """One event is enough."""
    assert imbalances(books) == [sentence]


def test_every_missing_event_is_named() -> None:
    """Take away each of those that are held: the accounting names exactly that one."""
    for gone in ("a", "b"):
        books = replace(BOOKS, held=[name for name in BOOKS.held if name != gone])
        assert imbalances(books) == [f"{gone} is lost"]


@pytest.mark.parametrize("name", ["accepted", "delivered", "dead", "pending"])
def test_a_wrong_count_is_found(name: str) -> None:
    """The counts are held against the books, and against each other."""
    standing = replace(STANDING, **{name: getattr(STANDING, name) + 1})
    assert untruths(standing, BOOKS)
    assert breaks(standing)


def test_a_count_that_falls_is_found() -> None:
    """Nothing that was counted is forgotten by a restart."""
    after = replace(STANDING, duplicate=1)
    assert regressions(STANDING, after) == ["duplicate fell from 2 to 1"]
    assert regressions(after, STANDING) == []
    assert changes(STANDING, after) == ["duplicate was 2, is 1"]
