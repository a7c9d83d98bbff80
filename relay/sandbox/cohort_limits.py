"""Amplitude's limits on cohort exports, and the meter that counts against them.

Source: Amplitude Behavioral Cohorts API reference, 2026-11.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

PARALLEL_FOR_MS: Final = 60_000


class CohortLimits(BaseModel):
    """The limits.

    Attributes:
        per_month: Exports per calendar month (UTC).
        per_window: Exports per window.
        window_s: Length of the window.
        parallel: Exports of the last minute that may be unfinished at a time.
        at_once: Requests under way at a time, of all kinds.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    per_month: NonNegativeInt = 500
    per_window: PositiveInt = 60
    window_s: float = Field(default=600.0, gt=0)
    parallel: PositiveInt = 4
    at_once: PositiveInt = 5


class Meter:
    """Counts the exports of one project.

    Attributes:
        under_way: Requests that are not answered yet.
        most_under_way: The most there ever were at a time, refused ones included.
    """

    def __init__(self) -> None:
        self._months: dict[str, int] = {}
        self._recent: deque[int] = deque()
        self.under_way = 0
        self.most_under_way = 0

    def enter(self) -> None:
        """Note that a request came."""
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

    def leave(self) -> None:
        """Note that a request was answered, or broke."""
        self.under_way -= 1

    def count(self, now_ms: int) -> None:
        """Note an export."""
        month = _month(now_ms)
        self._months[month] = self._months.get(month, 0) + 1
        self._recent.append(now_ms)

    def in_month(self, now_ms: int) -> int:
        """Return the exports of this month."""
        return self._months.get(_month(now_ms), 0)

    def spend(self, exports: int, now_ms: int) -> None:
        """Count exports as if others had asked for them this month."""
        self._months[_month(now_ms)] = self.in_month(now_ms) + exports

    def exceeded(self, limits: CohortLimits, unfinished: int, now_ms: int) -> str | None:
        """Return the limit one more export would exceed, in words; None if it would not."""
        while self._recent and self._recent[0] <= now_ms - limits.window_s * 1000:
            self._recent.popleft()
        if self.in_month(now_ms) >= limits.per_month:
            return f"Monthly limit of {limits.per_month} cohort downloads exceeded"
        if len(self._recent) >= limits.per_window:
            return f"Limit of {limits.per_window} requests in {limits.window_s:g} s exceeded"
        if unfinished >= limits.parallel:
            return f"Limit of {limits.parallel} parallel cohort downloads exceeded"
        return None


def month_end(now_ms: int) -> str:
    """Return when the month's count begins anew, as Amplitude writes it."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    years, month = divmod(now.month, 12)
    return f"{now.year + years:04d}-{month + 1:02d}-01T00:00:00Z"


def _month(now_ms: int) -> str:
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m}"
