"""Dead letters and quarantined bodies of an outbox that this process has opened itself."""

from relay.cli.segment_reach import open_own_segments
from relay.clock import SystemClock
from relay.cohorts.webhook import CohortWebhook
from relay.daemon.policies import event_sources, guard_policy
from relay.http.admin.dead_letters import answer_dead_letter
from relay.http.admin.quarantine import answer_bodies
from relay.http.admin.schemas import Choice, DeadLetterPage, Listing, QuarantinePage, cut_page
from relay.ingest.events import EventIngest
from relay.outbox.selection import Selection
from relay.outbox.store import Outbox
from relay.settings import Settings


class LocalDeadLetters:
    """The dead letters of an outbox."""

    def __init__(self, outbox: Outbox, settings: Settings) -> None:  # noqa: ARG002  as its twin
        self._outbox = outbox

    async def page(self, asked: Listing) -> DeadLetterPage:
        """Return the dead letters that were asked for."""
        found = await self._outbox.dead_letters.page(
            _listed(self._outbox, asked), after=asked.after, limit=asked.limit + 1
        )
        items, following = cut_page([answer_dead_letter(letter) for letter in found], asked.limit)
        return DeadLetterPage(items=items, next=items[-1].id if following else None)

    async def retry(self, choice: Choice) -> int:
        """Put dead letters back in line for the next start; return how many."""
        selection = _chosen(self._outbox, choice)
        if choice.dry_run:
            return await self._outbox.dead_letters.count(selection)
        return await self._outbox.dead_letters.retry(selection)

    async def discard(self, choice: Choice) -> int:
        """Throw dead letters away; return how many."""
        selection = _chosen(self._outbox, choice)
        if choice.dry_run:
            return await self._outbox.dead_letters.count(selection)
        return await self._outbox.dead_letters.discard(selection)


class LocalQuarantine:
    """The quarantined bodies of an outbox."""

    def __init__(self, outbox: Outbox, settings: Settings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._clock = SystemClock()

    async def page(self, asked: Listing) -> QuarantinePage:
        """Return the bodies that were asked for."""
        found = await self._outbox.quarantine.page(
            _listed(self._outbox, asked), after=asked.after, limit=asked.limit + 1
        )
        return answer_bodies(found, asked.limit)

    async def retry(self, choice: Choice) -> int:
        """Read bodies of both hooks once more; return how many were understood."""
        outbox, settings, chosen = self._outbox, self._settings, _chosen(self._outbox, choice)
        reception = EventIngest(outbox.writer, outbox.message_cache, self._clock)
        sources = event_sources(settings, outbox.counters)
        events = await reception.retry(outbox.quarantine, chosen, sources, dry_run=choice.dry_run)
        async with open_own_segments(settings, settings.data_dir) as segments:
            numbers = {app: outbox.counters.number(app) for app in settings.apps}
            guard = guard_policy(settings)
            cohorts = CohortWebhook(segments, outbox.writer, numbers, guard, self._clock)
            messages = await cohorts.read_again(outbox.quarantine, chosen, dry_run=choice.dry_run)
        return events + messages

    async def discard(self, choice: Choice) -> int:
        """Throw bodies away; return how many."""
        selection = _chosen(self._outbox, choice)
        if choice.dry_run:
            return await self._outbox.quarantine.count(selection)
        return await self._outbox.quarantine.discard(selection)


def _listed(outbox: Outbox, asked: Listing) -> Selection:
    return Selection(None, _number(outbox, asked.app), asked.reason)


def _chosen(outbox: Outbox, choice: Choice) -> Selection:
    ids = None if choice.ids is None else tuple(choice.ids)
    return Selection(ids, _number(outbox, choice.app), choice.reason)


def _number(outbox: Outbox, app: str | None) -> int | None:
    return None if app is None else outbox.counters.number(app)
