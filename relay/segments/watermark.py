"""Which computation of a cohort this is, and whether another one is worth a download.

Listing costs nothing, every export is counted.
"""

from typing import NamedTuple


class Watermark(NamedTuple):
    """A state of a cohort, identified by everything Amplitude's list says of it.

    Attributes:
        last_computed_at: When Amplitude computed the members, UTC epoch milliseconds.
        last_mod_at: When the definition was changed, likewise.
        size: Members it found.
    """

    last_computed_at: int
    last_mod_at: int
    size: int


def needs_refresh(
    listed: Watermark,
    *,
    applied: Watermark | None,
    rejected: Watermark | None,
    held: Watermark | None,
) -> bool:
    """Return whether the listed state is neither applied nor already judged.

    Any difference counts, also an older one: a restored cohort may go back in time. An operator
    judges a computation: a changed definition alone does not bring a judged one back.

    Args:
        listed: The state in Amplitude's list.
        applied: The state the segment has, None before the first download.
        rejected: The last state that was rejected.
        held: The state that waits for a decision.

    Source: Amplitude, Behavioral Cohorts API (2026): `lastComputed` moves with every computation,
    `lastMod` with the definition; a static cohort keeps both.
    """
    judged = [(one.last_computed_at, one.size) for one in (rejected, held) if one]
    return listed != applied and (listed.last_computed_at, listed.size) not in judged
