"""Whether a download or a removal is plausible.

A file of an implausible size fails its run. A computation that removes too large a share of a
segment is held until an operator approves or rejects it.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.errors import FileRejected
from relay.segments.cohort_row import CohortRow, Figures
from relay.segments.sql import SQL

_SLACK_ROWS: Final = 10
_SLACK_DIVISOR: Final = 5
"""A file may be off by a fifth."""


class GuardPolicy(NamedTuple):
    """Which removals are held.

    Attributes:
        removed_ratio: The largest share of the members that may leave unseen; 1 allows any.
        min_members: Segments with fewer members are not guarded.
    """

    removed_ratio: float
    min_members: int


class Shrink(NamedTuple):
    """What a computation takes from a segment.

    Attributes:
        members: The members it is judged by.
        removed: How many of them it removes, so never more than `members`.
    """

    members: int
    removed: int


class EarlierMessages(NamedTuple):
    """What the earlier messages of a webhook computation did.

    Attributes:
        run: The run that gathers them, whose delta is theirs.
        removed: Members that they removed, each time counted.
    """

    run: int
    removed: int


def reason_to_hold(
    raw: sqlite3.Connection,
    policy: GuardPolicy,
    cohort: CohortRow,
    leaving: Figures,
    earlier: EarlierMessages | None = None,
) -> str | None:
    """Return why a computation is to be held, None if it may be applied.

    Args:
        raw: In a transaction.
        policy: Which removals are held.
        cohort: The cohort before the file or the message at hand changes its list.
        leaving: Figures of the ids that leave the list by it.
        earlier: What the computation's earlier webhook messages did, if there were any; the delta
            of the message at hand is then run 0.
    """
    # Without a segment there are no members to lose: a first download is never held.
    if not cohort.is_segment or not leaving.matched_users:
        return None
    for shrink in _measure(raw, cohort, leaving, earlier):
        if is_implausible(policy, shrink):
            return explain_hold(policy, shrink)
    return None


def _measure(
    raw: sqlite3.Connection, cohort: CohortRow, leaving: Figures, earlier: EarlierMessages | None
) -> Iterator[Shrink]:
    """Yield what a computation takes from the segment, by each measure that may hold it.

    A poll brings its computation in one file, the webhook in any number of messages, between which
    the directory and other runs go on to change the segment. Both are judged alike: by the members
    that the computation found, among them those who entered by other ways meanwhile. Messages can
    also take back what earlier ones brought, so they are judged by all members there were as well.
    """
    if earlier is None:
        yield Shrink(cohort.matched_users, leaving.matched_users)
        return
    scope = {"run": earlier.run, "list": cohort.list, **cohort.membership}
    came, gone = raw.execute(SQL["moved_by_messages"], scope).fetchone()
    (passing,) = raw.execute(SQL["members_passing"], scope).fetchone()
    # Members it brought are left out, or they would hide the leavers. Both numbers are by the
    # directory of now, or a user who became known meanwhile would leave without having been there.
    yield Shrink(cohort.matched_users - came + gone, leaving.matched_users - passing + gone)
    yield Shrink(cohort.matched_users + earlier.removed, leaving.matched_users + earlier.removed)


def is_implausible(policy: GuardPolicy, shrink: Shrink) -> bool:
    """Return whether a shrink is too large to be applied unseen."""
    if not shrink.members or shrink.members < policy.min_members:
        return False
    # A quotient, not a product: rounding never puts 3 of 10 above a share of 0.3.
    return shrink.removed / shrink.members > policy.removed_ratio


def explain_hold(policy: GuardPolicy, shrink: Shrink) -> str:
    """Return why a run is held, as a sentence for the operator who decides on it."""
    share = f"{policy.removed_ratio * 100:g} %"
    lost = f"{shrink.removed} of {shrink.members} members would leave"
    return f"{lost}, more than {share}; approve or reject it"


def check_size(*, rows: int, listed: int) -> None:
    """Accept a file of about the size that Amplitude lists for the cohort.

    A cut or mixed-up file must not empty a segment, but a good one need not fit exactly: Amplitude
    recomputes a dynamic cohort between the listing and the export. A fifth is far more than a
    cohort changes in minutes, and ten rows keep a small one from failing over two or three users;
    a file cut in half is always found. Too many rows are as suspect as too few: they may be
    another cohort's.

    Args:
        rows: Distinct ids in the file and rows without one.
        listed: The size in Amplitude's list.

    Raises:
        FileRejected: `no_members`, if the file is empty and the cohort is not; `size_mismatch`,
            if it is off by more than a fifth and by more than ten rows.
    """
    if rows == 0 and listed > 0:
        detail = f"The file has no members, but Amplitude lists {listed}."
        raise FileRejected("no_members", detail)
    if abs(rows - listed) > max(_SLACK_ROWS, listed // _SLACK_DIVISOR):
        detail = f"The file has {rows} members, but Amplitude lists {listed}; that is too far off."
        raise FileRejected("size_mismatch", detail)
