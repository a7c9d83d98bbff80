"""Ids that OneSignal refuses as External IDs, so that no user can have one."""

from typing import Final

RESTRICTED_IDS: Final = (
    "NA",
    "NULL",
    "0",
    "1",
    "-1",
    "all",
    "00000000-0000-0000-0000-000000000000",
)
"""Letter for letter; `na` and `All` are ids like any other.

Source: OneSignal's staff in its Flutter SDK's issue 775 (2023) name the first five, its page on
users (2025) adds the last two.
"""

_RESTRICTED: Final = frozenset(RESTRICTED_IDS)


def is_restricted(external_id: str) -> bool:
    """Return whether OneSignal refuses the id as an External ID."""
    return external_id in _RESTRICTED
