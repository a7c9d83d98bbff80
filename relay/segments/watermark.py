"""Whether a cohort is worth a download: listing costs nothing, every export is counted."""

from typing import NamedTuple


class Watermark(NamedTuple):
    """Which state of a cohort this is, by all that Amplitude's list tells of it.

    Attributes:
        last_computed_at: When Amplitude computed the members.
        last_mod_at: When a person changed the definition.
        size: How many members that gave.
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

    Differing is enough, in whatever direction: a restored cohort may go back in time. What a person
    judges, or is to judge, is a computation: another definition alone does not bring it back.

    Args:
        listed: The state in Amplitude's list.
        applied: The state the segment has, None before the first download.
        rejected: The last state a person rejected.
        held: The state that waits for a person.

    Source: Amplitude, Behavioral Cohorts API (2026): `lastComputed` moves with every computation,
    `lastMod` with the definition; a static cohort keeps both.
    """
    judged = [(one.last_computed_at, one.size) for one in (rejected, held) if one]
    return listed != applied and (listed.last_computed_at, listed.size) not in judged
