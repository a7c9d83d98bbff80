"""The checks: functions over the evidence, one for each promise. Pure.

The first line of a check is its promise, as the report prints it. No check asks relay whether it
did well: what OneSignal's stand-in was answered is compared with what Amplitude's stand-in holds,
relay's own counts with both, and the segment views with what both stand-ins' data give.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from relay.demo.evidence import AppEvidence, Evidence


class Result(NamedTuple):
    """What was measured, and what contradicts the promise."""

    figures: str
    failures: tuple[str, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether the promise held."""
        return not self.failures


Check: TypeAlias = Callable[[Evidence], Result]


def in_each(evidence: Evidence, find: Callable[[AppEvidence], Iterable[str]]) -> tuple[str, ...]:
    """Return what `find` finds in each app, with the app's name before it."""
    return tuple(f"{own.app}: {found}" for own in evidence.apps for found in find(own))


def unless(holds: bool, failure: str) -> tuple[str, ...]:  # noqa: FBT001 - reads as a sentence
    """Return a failure unless a condition holds."""
    return () if holds else (failure,)
