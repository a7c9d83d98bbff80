"""What a seed stands for: the shape of one run. The same seed always gives the same run.

Not every run has every fault: runs with few kinds reach states that runs with all of them, where
hardly anything succeeds, never do.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

NETWORK: Final = (
    "refused",
    "lost",
    "late",
    "reset_before",
    "reset_after",
    "silent",
    "500",
    "502",
    "503",
    "504",
    "429",
    "200_html",
    "200_cut",
    "401",
    "403",
    "404",
    "wrong_key",
    "bare_400",
    "small",
    "slow",
    "throttle",
    "quota",
    "silenced",
)
"""Faults between relay and Amplitude, for a while or for a single upload."""

DISK: Final = ("full", "locked", "sync", "read", "stall")
PEOPLE: Final = ("pause", "retry", "discard", "forget", "clock", "look")
FLAWS: Final = ("invalid", "bare_400", "html_400", "waf_403", "large")

DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class FaultPeriod:
    """A time during which something is wrong.

    Attributes:
        kind: What is wrong.
        begins_s: Virtual seconds.
        ends_s: Virtual seconds.
    """

    kind: str
    begins_s: float
    ends_s: float


@dataclass(frozen=True)
class Scenario:
    """The shape of one run.

    Attributes:
        seed: Seeds everything.
        apps: Names.
        requests: Requests of OneSignal per app.
        span_s: How long it sends and faults occur; then all recovers.
        devices: Distinct devices of an app.
        senders: Concurrent uploads.
        max_batch_events: Events of one upload.
        linger_s: How long a partial batch waits for more events.
        backoff_cap_s: Longest wait after a failure.
        hold_s: Hold of a throttled device or user.
        halt_probe_s: Interval of probes of a halted app.
        timeout_s: Of one upload.
        max_age_s: Age since the first upload at which an event expires.
        memory_s: How long Amplitude recognises an insert id.
        max_events: Pending events past which new ones are rejected.
        is_batch: Whether the Batch API is used.
        hiccup_rate: Share of single uploads that go wrong.
        flaw_rate: Share of events Amplitude never accepts.
        kill_rate: Share of processes that end by a kill.
        network: Fault kinds of the network and Amplitude.
        disk: Fault kinds of the disk.
        operators: What operators do.
    """

    seed: int
    apps: tuple[str, ...]
    requests: int
    span_s: float
    devices: int
    senders: int
    max_batch_events: int
    linger_s: float
    backoff_cap_s: float
    hold_s: float
    halt_probe_s: float
    timeout_s: float
    max_age_s: float
    memory_s: float
    max_events: int
    is_batch: bool
    hiccup_rate: float
    flaw_rate: float
    kill_rate: float
    network: tuple[str, ...]
    disk: tuple[str, ...]
    operators: tuple[str, ...]

    def rng(self, purpose: str) -> Random:
        """Return the chance of one part, independent of draws by other parts."""
        return Random(f"{self.seed} {purpose}")

    def fault_periods(self, purpose: str, kinds: tuple[str, ...]) -> list[FaultPeriod]:
        """Return what goes wrong when; periods may overlap."""
        rng = self.rng(f"spells {purpose}")
        if not kinds:
            return []
        found = []
        for _ in range(rng.randint(0, 4)):
            begins_s = rng.uniform(0, self.span_s)
            length_s = rng.expovariate(rng.choice((2, 8, 30)) / self.span_s)
            ends_s = min(begins_s + length_s, self.span_s)
            found.append(FaultPeriod(rng.choice(kinds), begins_s, ends_s))
        return found


MARGIN_S = 600.0
"""How much longer Amplitude remembers than relay retries; half a day in production."""


def draw_scenario(seed: int) -> Scenario:
    """Return the run a seed stands for."""
    rng = Random(f"{seed} scenario")
    is_short_of_time = rng.random() < 0.25
    network = _some(rng, NETWORK)
    if rng.random() < 0.7:  # a quota holds for an hour, long even in virtual time
        network = tuple(kind for kind in network if kind != "quota")
    max_age_s = rng.choice((60.0, 90.0)) if is_short_of_time else 6.5 * DAY_S
    return Scenario(
        seed=seed,
        apps=("demo", "other")[: rng.choice((1, 1, 2))],
        requests=rng.choice((3, 8, 16, 30)),
        span_s=240.0 if is_short_of_time else rng.choice((20.0, 60.0, 120.0)),
        devices=rng.choice((1, 3, 8, 30)),
        senders=rng.choice((1, 2, 4)),
        max_batch_events=rng.choice((1, 4, 10, 50)),
        linger_s=rng.choice((0.0, 0.5)),
        backoff_cap_s=rng.choice((2.0, 10.0)),
        hold_s=rng.choice((1.0, 5.0)),
        halt_probe_s=rng.choice((5.0, 20.0)),
        timeout_s=rng.choice((2.0, 8.0)),
        max_age_s=max_age_s,
        memory_s=max_age_s + MARGIN_S if is_short_of_time else 7 * DAY_S,
        max_events=rng.choice((25, 10_000, 10_000)),
        is_batch=rng.random() < 0.25,
        hiccup_rate=rng.choice((0.0, 0.05, 0.3)),
        flaw_rate=rng.choice((0.0, 0.0, 0.03, 0.2)),
        kill_rate=rng.choice((0.0, 0.5, 1.0)),
        network=network,
        disk=_some(rng, DISK) if rng.random() < 0.6 else (),
        operators=_some(rng, PEOPLE),
    )


def _some(rng: Random, kinds: tuple[str, ...]) -> tuple[str, ...]:
    share = rng.choice((0.1, 0.3, 0.6))
    return tuple(kind for kind in kinds if rng.random() < share)
