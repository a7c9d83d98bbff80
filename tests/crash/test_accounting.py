"""The accounting itself: it reports whatever is missing or duplicated."""

from dataclasses import replace

import pytest

from tests.crash.accounting import (
    Accounts,
    changes,
    contradictions,
    imbalances,
    regressions,
    wrong_counts,
)
from tests.support.daemons import AppCounts

ACCOUNTS = Accounts(
    attempted={"a", "b", "c", "d"}, acknowledged={"a", "b", "c"}, held=["a", "b", "d"], dead=["c"]
)
STANDING = AppCounts(
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


def test_accounts_that_balance_pass() -> None:
    """An event that was stored but whose answer was lost may be delivered."""
    assert imbalances(ACCOUNTS) == []
    assert wrong_counts(STANDING, ACCOUNTS) == []
    assert contradictions(STANDING) == []
    assert regressions(STANDING, STANDING) == []
    assert changes(STANDING, STANDING) == []


@pytest.mark.parametrize(
    ("accounts", "sentence"),
    [
        (replace(ACCOUNTS, held=["a", "d"]), "b is lost"),
        (replace(ACCOUNTS, dead=[]), "c is lost"),
        (replace(ACCOUNTS, held=["a", "b", "d", "b"]), "b is counted more than once"),
        (replace(ACCOUNTS, dead=["c", "c"]), "c is dead more than once"),
        (replace(ACCOUNTS, held=["a", "b", "d", "e"]), "e is out of nowhere"),
    ],
)
def test_a_wrong_account_is_found(accounts: Accounts, sentence: str) -> None:
    """One wrong event is enough."""
    assert imbalances(accounts) == [sentence]


def test_every_missing_event_is_named() -> None:
    """Removing any one of the held events names exactly that event."""
    for gone in ("a", "b"):
        accounts = replace(ACCOUNTS, held=[name for name in ACCOUNTS.held if name != gone])
        assert imbalances(accounts) == [f"{gone} is lost"]


@pytest.mark.parametrize("name", ["accepted", "delivered", "dead", "pending"])
def test_a_wrong_count_is_found(name: str) -> None:
    """The counts are compared with the accounts and with each other."""
    counts = replace(STANDING, **{name: getattr(STANDING, name) + 1})
    assert wrong_counts(counts, ACCOUNTS)
    assert contradictions(counts)


def test_a_count_that_falls_is_found() -> None:
    """A restart must not lower any count."""
    after = replace(STANDING, duplicate=1)
    assert regressions(STANDING, after) == ["duplicate fell from 2 to 1"]
    assert regressions(after, STANDING) == []
    assert changes(STANDING, after) == ["duplicate was 2, is 1"]
