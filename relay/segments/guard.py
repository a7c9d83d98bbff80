"""Whether so many members may leave a segment at once without a person having seen it."""

from typing import NamedTuple


class GuardPolicy(NamedTuple):
    """When a removal is too large to be believed.

    Attributes:
        removed_ratio: The largest share of the members that may leave unseen; 1 allows any.
        min_members: Segments with fewer members are not watched.
    """

    removed_ratio: float
    min_members: int


def is_implausible(policy: GuardPolicy, *, members: int, removed: int) -> bool:
    """Return whether a run has to be held for a person to decide.

    Args:
        policy: What is too much.
        members: Members of the segment before the run.
        removed: How many of them it would remove.
    """
    if not members or members < policy.min_members:
        return False
    # A quotient, not a product: rounding never puts 3 of 10 above a share of 0.3.
    return removed / members > policy.removed_ratio


def explain_hold(policy: GuardPolicy, *, members: int, removed: int) -> str:
    """Return why a run is held, as a sentence for the person who decides on it."""
    share = f"{policy.removed_ratio * 100:g} %"
    return f"{removed} of {members} members would leave, more than {share}; approve or reject it"
