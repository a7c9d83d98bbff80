"""What the cohort acts noted, as plain facts: judged in `revisions`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.demo.reader import Readings
from relay.demo.truth import Members


@dataclass(frozen=True, slots=True)
class Step:
    """A segment at the end of a step.

    Attributes:
        name: What had happened.
        cohort_id: Whose segment.
        expected: The members by both services' data.
        seen: Those of the view.
    """

    name: str
    cohort_id: str
    expected: Members
    seen: Members


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation of relay's, and the same numbers out of both services' data.

    Attributes:
        name: What had happened.
        told: By relay.
        expected: By the demo.
    """

    name: str
    told: Mapping[str, int]
    expected: Mapping[str, int]


@dataclass(slots=True)
class SegmentNotes:
    """What the cohort acts noted while they went on.

    Attributes:
        steps: What was compared, in order.
        revisions: By cohort, the members of every revision there may be, in order.
        readings: What another program saw meanwhile.
        refused: What was wrong with a file, and the reason of the run it failed.
        missing_state: State of the segment whose cohort was gone from the list.
        held_reason: Why the shrink was held.
        held_leavers: How many it would have removed.
        explained: Explanations.
        messages: Messages of the webhook, repetitions not counted.
        deliveries: How often they were answered 200.
        undelivered: Other answers to them.
        exports_killed: Exports that ran when relay was killed.
        exports_repeated: Further exports relay asked for after that.
    """

    steps: list[Step] = field(default_factory=list)
    revisions: dict[str, list[Members]] = field(default_factory=dict)
    readings: Readings = field(default_factory=Readings)
    refused: dict[str, str] = field(default_factory=dict)
    missing_state: str = ""
    held_reason: str = ""
    held_leavers: int = 0
    explained: list[Explained] = field(default_factory=list)
    messages: int = 0
    deliveries: int = 0
    undelivered: int = 0
    exports_killed: int = 0
    exports_repeated: int = 0
