"""The download budget: how many a month has left, and which cohort is due when.

Amplitude counts every export against a monthly limit. relay spends its allowance evenly, so that
the last day of a month is served as well as the first. `plan` is pure: the same cohorts, counts
and instant give the same plan, and it is made again at every poll. `BudgetUsage` counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from relay.amplitude.cohort_list import Usage
from relay.clock import Clock, SteadyClock
from relay.segments.download_log import DownloadLog

WINDOW_MS: Final = 600_000
WINDOW_REQUESTS: Final = 60
"""Exports that may be asked for within `WINDOW_MS`.

Source: Amplitude, Behavioral Cohorts API (2026): 60 requests of a cohort per 10 minutes and app.
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def month_start(now_ms: int) -> int:
    """Return the first instant of the month (UTC)."""
    return _to_ms(_first_day(_moment(now_ms)))


def next_month_start(now_ms: int) -> int:
    """Return the first instant of the next month (UTC)."""
    return _to_ms(_first_day(_first_day(_moment(now_ms)) + timedelta(days=31)))


def month_of(now_ms: int) -> str:
    """Return the month (UTC) as text, like `2026-11`."""
    return f"{_moment(now_ms):%Y-%m}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """The downloads of one app in the current month.

    Attributes:
        monthly: Downloads relay allows itself per month.
        used: Downloads relay has asked for this month.
        upstream: Amplitude's limit and its own count of this month, None if unknown.
    """

    monthly: int
    used: int
    upstream: tuple[int, int] | None = None

    @property
    def total(self) -> int:
        """Downloads the month allows: the smaller of relay's limit and Amplitude's."""
        return self.monthly if self.upstream is None else min(self.monthly, self.upstream[0])

    @property
    def spent(self) -> int:
        """Downloads spent: the larger of the two counts, as others may use the key."""
        return self.used if self.upstream is None else max(self.used, self.upstream[1])

    @property
    def left(self) -> int:
        """Downloads that remain this month."""
        return max(0, self.total - self.spent)

    def turn_at(self, place: int, now_ms: int, *, is_paced: bool) -> int:
        """Return when the download that is `place`-th from now may happen.

        The month is cut into as many equal shares as it allows downloads, and each share brings
        the credit for one as it begins. Unspent credit lasts until the month ends. A cohort that
        finds no place this month gets one in the next; no plan looks further.

        Args:
            place: 1 for the next download of all.
            now_ms: The present, UTC epoch milliseconds.
            is_paced: Whether it waits for its credit, or only for a month with room.
        """
        start = month_start(now_ms)
        # Others may spend more than the total with the same key; next month owes nothing for that.
        number = min(self.spent, self.total) + place
        if number > self.total:
            start = next_month_start(now_ms)
            number = min(number - self.total, self.total)
        if not is_paced or number < 1:
            return max(now_ms, start)
        length_ms = next_month_start(start) - start
        return max(now_ms, start + _divide_up((number - 1) * length_ms, self.total))


class Candidate(NamedTuple):
    """A cohort whose listed state is worth a download.

    Attributes:
        cohort_id: Amplitude's id.
        is_first: Whether nothing of it was ever applied.
        is_manual: Whether an operator requested it.
        stale_since: When its listing began to differ from what is applied.
        last_downloaded_at: When an export of it was last asked for, None if never.
        changes: How often its listing changed in the last 30 days.
    """

    cohort_id: str
    is_first: bool
    is_manual: bool
    stale_since: int
    last_downloaded_at: int | None
    changes: int


class Due(NamedTuple):
    """When a cohort may be downloaded.

    Attributes:
        cohort_id: Amplitude's id.
        due_at: The instant, not before now.
        reason: Why it waits, as a sentence; None if it is due.
    """

    cohort_id: str
    due_at: int
    reason: str | None


def window_free_at(recent: Sequence[int], now_ms: int) -> int:
    """Return when Amplitude's window has room for one more request: now, if it has.

    Instants further ahead than a window is long come from a clock that was set back since; trusting
    them would stop all downloads until it has caught up.

    Args:
        recent: Instants of earlier requests, in any order; old ones do no harm.
        now_ms: The present.
    """
    counted = sorted(at for at in recent if abs(at - now_ms) < WINDOW_MS)
    if len(counted) < WINDOW_REQUESTS:
        return now_ms
    return max(now_ms, counted[-WINDOW_REQUESTS] + WINDOW_MS)


def plan(
    candidates: Sequence[Candidate], allowance: Allowance, recent: Sequence[int], now_ms: int
) -> list[Due]:
    """Return when each cohort may be downloaded, by priority.

    Requested cohorts come first, then first downloads; neither waits for credit, both count. The
    others are ordered by how long they have waited, times the number of binary digits of how often
    they change: a cohort that changes a thousand times as often weighs ten times as much, not a
    thousand times. A wait begins anew with every download and that factor stays small, so no cohort
    waits for ever.

    A first download is exempt from pacing once: if it fails, further tries wait for credit, or a
    cohort that cannot be exported would use up the month.

    Args:
        candidates: The cohorts worth a download.
        allowance: What the month allows.
        recent: Instants of the app's latest requests.
        now_ms: The present.
    """
    # Planned requests fill the window like past ones; only the newest can keep it full.
    slots = sorted(at for at in recent if at < now_ms + WINDOW_MS)[-WINDOW_REQUESTS:]
    queue = sorted(candidates, key=lambda candidate: _rank(candidate, now_ms))
    dues: list[Due] = []
    due_at = now_ms
    for place, candidate in enumerate(queue, start=1):
        turn_at = allowance.turn_at(place, now_ms, is_paced=_is_paced(candidate))
        # Never before the cohort ahead: a free place in the window must not go to a lower priority.
        due_at = window_free_at(slots, max(turn_at, due_at))
        slots = sorted((*slots, due_at))[-WINDOW_REQUESTS:]
        reason = _reason(allowance, turn_at, now_ms) if due_at > now_ms else None
        dues.append(Due(candidate.cohort_id, due_at, reason))
    return dues


class BudgetUsage:
    """Counts the downloads of one app: relay's own count, corrected by Amplitude's.

    A clock that steps ahead brings no new month until it is trusted.

    Attributes:
        monthly: Downloads allowed per month.
        allowance: What the month allows and how much of it is spent, as last counted.
    """

    def __init__(self, app: int, log: DownloadLog, monthly: int, clock: Clock) -> None:
        self._app = app
        self._log = log
        self.monthly = monthly
        self._clock = SteadyClock(clock)
        self._usage: tuple[str, Usage] | None = None  # and the month it is of
        self.allowance = Allowance(monthly, 0)

    def now_ms(self) -> int:
        """Return the present that downloads are planned by, UTC epoch milliseconds."""
        return self._clock.now_ms()

    def correct(self, usage: Usage | None) -> None:
        """Store Amplitude's own count of this month, if known."""
        self._usage = (month_of(self._clock.now_ms()), usage) if usage else None

    async def count(self) -> None:
        """Count the month's downloads."""
        now_ms = self._clock.now_ms()
        requests = await self._log.requests_since(self._app, month_start(now_ms))
        if not self._clock.is_behind():
            end_at = next_month_start(now_ms)
            # A clock that ran ahead for a while has left instants of months to come.
            requests = [at for at in requests if at < end_at]
        upstream = None
        if self._usage and self._usage[0] == month_of(now_ms):
            upstream = (self._usage[1].limit, self._usage[1].used)
        self.allowance = Allowance(self.monthly, len(requests), upstream)

    async def recent(self) -> list[int]:
        """Return the instants of the requests that Amplitude's window still counts, in ms."""
        return await self._log.requests_since(self._app, self.now_ms() - WINDOW_MS)


def _rank(candidate: Candidate, now_ms: int) -> tuple[bool, bool, int, int, str]:
    """Return the key that orders candidates, the smallest first."""
    wait_ms = now_ms - _not_ahead(candidate.stale_since, now_ms)
    urgency = wait_ms * max(1, candidate.changes).bit_length()
    last_at = _not_ahead(candidate.last_downloaded_at or 0, now_ms)
    return not candidate.is_manual, _is_paced(candidate), -urgency, last_at, candidate.cohort_id


def _is_paced(candidate: Candidate) -> bool:
    is_first_try = candidate.is_first and candidate.last_downloaded_at is None
    return not (candidate.is_manual or is_first_try)


def _not_ahead(instant: int, now_ms: int) -> int:
    """Return an instant, or the oldest of all if the clock was set back behind it.

    How long such a cohort has waited is unknown. It goes first, once; its next instants are right.
    """
    return instant if instant <= now_ms else 0


def _reason(allowance: Allowance, turn_at: int, now_ms: int) -> str:
    if turn_at <= now_ms:
        return f"{WINDOW_REQUESTS} exports in {WINDOW_MS // 60_000} minutes are Amplitude's limit"
    if allowance.total <= 0:
        return "no downloads are allowed: the month's limit is 0"
    next_month_at = next_month_start(now_ms)
    if turn_at < next_month_at:
        return "waits for its share of the month's downloads"
    day = f"{_moment(next_month_at):%Y-%m-%d}"
    if allowance.left:
        return f"what is left of the month's downloads goes to others; the next come on {day}"
    figures = f"{allowance.spent} of {allowance.total}"
    return f"the month's downloads are used up: {figures}; the next is possible on {day}"


def _divide_up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _moment(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


def _first_day(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _to_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
