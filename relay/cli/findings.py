"""What `relay check` finds: one line each, good or bad."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        is_ok: Whether relay can run with it.
        text: How it is, for a person; holds no secret.
    """

    name: str
    is_ok: bool
    text: str


def good(name: str, text: str) -> Finding:
    """Return a finding that relay can run with."""
    return Finding(name, is_ok=True, text=text)


def bad(name: str, text: str) -> Finding:
    """Return a finding that needs a person."""
    return Finding(name, is_ok=False, text=text)
