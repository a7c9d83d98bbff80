"""The proof: facts of both sides in, one row for each promise out. Pure.

Nothing here asks relay whether it did well. Rows compare what OneSignal's stand-in was
promised with what Amplitude's stand-in holds; relay's own numbers are held against both. Segments,
read with plain SQLite, are compared with what both stand-ins' data make of them.
"""

from collections.abc import Callable, Sequence
from typing import Final

from relay.demo.conduct import (
    apps_are_apart,
    devices_are_apart,
    ended_in_order,
    late_are_whole,
    log_is_clean,
    nothing_forbidden,
    order_kept,
    story_was_told,
)
from relay.demo.evidence import Evidence
from relay.demo.promises import (
    counted_once,
    nothing_invented,
    nothing_lost,
    outage_harmless,
    poison_is_dead,
    quarantine_is_raw,
    repaired_arrived,
    same_bytes,
)
from relay.demo.revisions import (
    changes_lead_there,
    explanations_add_up,
    export_went_on,
    members_are_true,
    messages_count_once,
    never_emptied,
    revisions_are_whole,
    shrink_waited,
)
from relay.demo.row import Row
from relay.demo.tallies import counts_add_up, counts_survive, final_counts

RULES: Final[Sequence[Callable[[Evidence], Row]]] = (
    story_was_told,
    nothing_lost,
    outage_harmless,
    poison_is_dead,
    repaired_arrived,
    quarantine_is_raw,
    counted_once,
    nothing_invented,
    same_bytes,
    members_are_true,
    revisions_are_whole,
    never_emptied,
    shrink_waited,
    changes_lead_there,
    counts_add_up,
    counts_survive,
    final_counts,
    order_kept,
    nothing_forbidden,
    late_are_whole,
    apps_are_apart,
    devices_are_apart,
    messages_count_once,
    explanations_add_up,
    export_went_on,
    log_is_clean,
    ended_in_order,
)
"""In the order of the table."""


def prove(evidence: Evidence) -> list[Row]:
    """Return a row for every promise."""
    return [rule(evidence) for rule in RULES]
