"""The promises, each with the check that proves it. Pure.

No check asks relay whether it did well: what OneSignal's stand-in was answered is compared with
what Amplitude's stand-in holds, relay's own counts with both, and segments, read as another
program reads them, with what both stand-ins' data give.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from relay.demo.checks import behaviour, counters, events, segments
from relay.demo.checks.result import Result
from relay.demo.evidence import Evidence

Judge: TypeAlias = Callable[[Evidence], Result]


class Check(NamedTuple):
    """One promise and how it is checked.

    Attributes:
        number: Of the contract's promise; empty for what follows from several.
        promise: In plain words.
        judge: Compares the evidence with it.
    """

    number: str
    promise: str
    judge: Judge


CHECKS: Final[Sequence[Check]] = (
    Check("", "every step came to its end", behaviour.scenario_completed),
    Check(
        "1",
        "every event answered 200 is at Amplitude or in the dead letters",
        events.nothing_lost,
    ),
    Check("1", "events were accepted while Amplitude was down", behaviour.outage_harmless),
    Check(
        "1",
        "poison is in the dead letters with its reason, and nothing else is",
        events.poison_dead_lettered,
    ),
    Check("1", "a retried dead letter reached Amplitude", events.retried_arrived),
    Check(
        "1",
        "what could not be understood is in quarantine, byte for byte",
        events.quarantine_is_raw,
    ),
    Check("2", "Amplitude counted each event once", events.counted_once),
    Check("2", "Amplitude holds nothing that OneSignal did not send", events.nothing_invented),
    Check("2", "every attempt of an event had the same bytes", events.same_bytes),
    Check(
        "3",
        "a segment holds the users that its cohort and OneSignal both know, and no others",
        segments.members_are_true,
    ),
    Check(
        "3",
        "another program saw whole revisions only, one after the other",
        segments.revisions_are_whole,
    ),
    Check(
        "3",
        "a cut, empty or foreign file and a missing cohort left the segment unchanged",
        segments.never_emptied,
    ),
    Check("3", "an implausible shrink was held until it was approved", segments.shrink_held),
    Check(
        "3",
        "segment_changes, followed from 0, gave the view's members at every reading",
        segments.changes_lead_there,
    ),
    Check(
        "4",
        "accepted = pending + delivered + dead + discarded, and true on both sides",
        counters.counts_add_up,
    ),
    Check("4", "SIGKILL took nothing from the counts", counters.counts_survive),
    Check("4", "in the end relay's counts are those of both stand-ins", counters.final_counts),
    Check("", "the order of each device was kept", events.order_kept),
    Check(
        "",
        "no ip, event_id, upload time or other field was sent that is not agreed",
        events.no_forbidden_fields,
    ),
    Check("", "events that came without their message have it", events.late_completed),
    Check(
        "",
        "an app with a refused key halted alone and lost nothing",
        behaviour.apps_are_independent,
    ),
    Check("", "a throttled device waited alone", behaviour.devices_are_independent),
    Check(
        "",
        "every message of the cohort webhook was accepted, its repetition without effect",
        segments.messages_count_once,
    ),
    Check(
        "",
        "the numbers between a cohort's size and its segment's count are true and add up",
        segments.explanations_add_up,
    ),
    Check(
        "",
        "relay, killed during an export, went on with the same export",
        segments.export_resumed,
    ),
    Check("", "no key, token, user or device is in relay's log", behaviour.log_is_clean),
    Check("", "SIGTERM ended relay in order", behaviour.ended_in_order),
)
"""In the order of the report."""


def run_checks(evidence: Evidence) -> list[tuple[Check, Result]]:
    """Return every check with its result."""
    return [(check, check.judge(evidence)) for check in CHECKS]
