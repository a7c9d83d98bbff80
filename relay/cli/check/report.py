"""What `relay check` reports: a finding a line, good or bad."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.text import Text

from relay.cli.output import print_aligned


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What was checked.
        is_ok: Whether relay can run with it.
        text: A sentence for people; holds no secret.
    """

    name: str
    is_ok: bool
    text: str


def good(name: str, text: str) -> Finding:
    """Return a finding that relay can run with."""
    return Finding(name, is_ok=True, text=text)


def bad(name: str, text: str) -> Finding:
    """Return a finding somebody must act on."""
    return Finding(name, is_ok=False, text=text)


def print_findings(findings: Iterable[Finding]) -> None:
    """Print findings in aligned columns."""
    rows = []
    for finding in findings:
        word = Text("ok", "green") if finding.is_ok else Text("failed", "bold red")
        rows.append((word, Text(finding.name), Text(finding.text)))
    print_aligned(rows)
