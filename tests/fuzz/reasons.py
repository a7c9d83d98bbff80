"""Refusals are promises too: only for the reasons that are documented."""

from collections.abc import Collection


def known(reason: str, reasons: Collection[str]) -> str:
    """Return the reason of a refusal, which must be one of these."""
    assert reason in reasons, f"refused for another reason: {reason}"
    return reason
