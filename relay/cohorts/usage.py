"""How much of the month's downloads is gone: relay's own count, corrected by Amplitude's.

A clock that leaps ahead brings no new month until it is believed.
"""

from relay.amplitude.cohort_list import Usage
from relay.clock import Clock, SteadyClock
from relay.cohorts.budget import (
    WINDOW_MS,
    Allowance,
    month_of,
    month_start,
    next_month_start,
)
from relay.segments.download_log import DownloadLog


class BudgetUsage:
    """Counts the downloads of one app.

    Attributes:
        monthly: Downloads allowed per month.
        allowance: What the month allowed and what of it is gone, as last counted.
    """

    def __init__(self, app: int, polls: DownloadLog, monthly: int, clock: Clock) -> None:
        self._app = app
        self._polls = polls
        self.monthly = monthly
        self._clock = SteadyClock(clock)
        self._usage: tuple[str, Usage] | None = None  # and the month it is of
        self.allowance = Allowance(monthly, 0)

    def now_ms(self) -> int:
        """Return the present, as downloads are planned by it."""
        return self._clock.now_ms()

    def correct(self, usage: Usage | None) -> None:
        """Take over what Amplitude counted, if it told."""
        self._usage = (month_of(self._clock.now_ms()), usage) if usage else None

    async def count(self) -> None:
        """Count anew."""
        now_ms = self._clock.now_ms()
        requests = await self._polls.requests_since(self._app, month_start(now_ms))
        if not self._clock.is_behind():
            end_at = next_month_start(now_ms)
            requests = [at for at in requests if at < end_at]  # not of a clock gone wrong
        upstream = None
        if self._usage and self._usage[0] == month_of(now_ms):
            upstream = (self._usage[1].limit, self._usage[1].used)
        self.allowance = Allowance(self.monthly, len(requests), upstream)

    async def recent(self) -> list[int]:
        """Return the instants of the requests that Amplitude's window still counts."""
        return await self._polls.requests_since(self._app, self.now_ms() - WINDOW_MS)
