"""Rejections are promises too: only for documented reasons."""

from collections.abc import Collection


def known(reason: str, reasons: Collection[str]) -> str:
    """Return the reason of a rejection, asserting that it is one of these."""
    assert reason in reasons, f"refused for another reason: {reason}"
    return reason
