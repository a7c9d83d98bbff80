"""A row of the proof: one promise, what was measured, and what broke it. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay.demo.evidence import AppEvidence, Evidence


@dataclass(frozen=True, slots=True)
class Row:
    """One promise, held or not.

    Attributes:
        number: Of the contract's promise; empty for what follows from none of them alone.
        promise: In plain words.
        figures: What was measured.
        culprits: What broke it; nothing if it held.
    """

    number: str
    promise: str
    figures: str
    culprits: tuple[str, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether the promise held."""
        return not self.culprits


def in_each(evidence: Evidence, find: Callable[[AppEvidence], Iterable[str]]) -> tuple[str, ...]:
    """Return what `find` finds in every app, each with the app's name."""
    return tuple(f"{own.app}: {found}" for own in evidence.apps for found in find(own))


def unless(holds: bool, why: str) -> tuple[str, ...]:  # noqa: FBT001 - reads as a sentence
    """Return nothing if a condition holds, else why a row does not."""
    return () if holds else (why,)
