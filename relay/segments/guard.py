"""Whether a download or a removal is plausible: pure, figures in, a decision out.

A file of an implausible size fails its run. A computation that removes too large a share of a
segment is held until an operator approves or rejects it.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from relay.errors import FileRejected

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


def find_implausible(policy: GuardPolicy, shrinks: Iterable[Shrink]) -> Shrink | None:
    """Return the shrink for which a run has to be held until an operator decides, if any."""
    return next((shrink for shrink in shrinks if _is_implausible(policy, shrink)), None)


def _is_implausible(policy: GuardPolicy, shrink: Shrink) -> bool:
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
