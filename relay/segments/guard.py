"""Whether a computation may shrink a segment, or is held until somebody has looked at it."""

from typing import NamedTuple


class GuardPolicy(NamedTuple):
    """When a removal is too large to be believed.

    Attributes:
        removed_ratio: The largest share of the members that may leave unseen; 1 allows any.
        min_members: Segments with fewer members are not watched.
    """

    removed_ratio: float
    min_members: int


class Shrink(NamedTuple):
    """What a computation takes from a segment.

    Attributes:
        members: Members that the segment would have now without the computation. Members who
            entered by other ways meanwhile are among them, those whom the computation itself
            brought are not: they must not hide the leavers.
        removed: How many of those members it removes, so never more than `members`.
    """

    members: int
    removed: int


def is_implausible(policy: GuardPolicy, shrink: Shrink) -> bool:
    """Return whether a run has to be held for an operator to decide."""
    if not shrink.members or shrink.members < policy.min_members:
        return False
    # A quotient, not a product: rounding never puts 3 of 10 above a share of 0.3.
    return shrink.removed / shrink.members > policy.removed_ratio


def explain_hold(policy: GuardPolicy, shrink: Shrink) -> str:
    """Return why a run is held, as a sentence for the operator who decides on it."""
    share = f"{policy.removed_ratio * 100:g} %"
    lost = f"{shrink.removed} of {shrink.members} members would leave"
    return f"{lost}, more than {share}; approve or reject it"
