"""Quarantined bodies: list, read again, discard."""

from base64 import b64encode
from collections.abc import Sequence

from relay.http.admin.context import OutboxContext, StoresContext
from relay.http.admin.operations import Call, Operation
from relay.http.admin.schemas import (
    Affected,
    Choice,
    Listing,
    QuarantinedAnswer,
    QuarantinePage,
    cut_page,
)
from relay.outbox.quarantine import Quarantined, is_full


async def _list(context: OutboxContext, call: Call[Listing]) -> QuarantinePage:
    asked = call.input
    found = await context.outbox.quarantine.page(
        context.selection(asked.app, asked.reason), after=asked.after, limit=asked.limit + 1
    )
    return answer_bodies(found, asked.limit)


async def _retry(context: StoresContext, call: Call[Choice]) -> Affected:
    """Read bodies of both webhooks again; those understood now leave the quarantine."""
    quarantine, asked = context.outbox.quarantine, call.input
    selection = context.selection(asked.app, asked.reason, asked.ids)
    sources = {name: app.source for name, app in context.apps.items()}
    events = await context.event_ingest.retry(quarantine, selection, sources, dry_run=asked.dry_run)
    messages = await context.cohort_webhook.retry(quarantine, selection, dry_run=asked.dry_run)
    return Affected(affected=events + messages)


async def _discard(context: OutboxContext, call: Call[Choice]) -> Affected:
    quarantine, asked = context.outbox.quarantine, call.input
    act = quarantine.count if asked.dry_run else quarantine.discard
    return Affected(affected=await act(context.selection(asked.app, asked.reason, asked.ids)))


def answer_bodies(found: Sequence[Quarantined], limit: int) -> QuarantinePage:
    """Return a page of bodies.

    Args:
        found: The bodies; more follow if there is one more than `limit`, or if they fill the
            memory that one read may take.
        limit: Bodies on a page.
    """
    items, following = cut_page([_answer_body(body) for body in found], limit)
    more = following or is_full(found)
    return QuarantinePage(items=items, next=items[-1].id if more else None)


def _answer_body(body: Quarantined) -> QuarantinedAnswer:
    try:
        text, encoding = body.body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = b64encode(body.body).decode(), "base64"
    return QuarantinedAnswer.model_validate(
        {
            "id": body.id,
            "app": body.app,
            "hook": body.hook,
            "reason": body.reason,
            "detail": body.detail,
            "received_at": body.received_at,
            "body": text,
            "encoding": encoding,
        }
    )


LIST_QUARANTINE = Operation(
    "GET", "/quarantine", "List quarantined bodies.", Listing, QuarantinePage, _list
)
RETRY_QUARANTINE = Operation(
    "POST", "/quarantine/retry", "Read quarantined bodies once more.", Choice, Affected, _retry
)
DISCARD_QUARANTINE = Operation(
    "POST", "/quarantine/discard", "Throw quarantined bodies away.", Choice, Affected, _discard
)

OPERATIONS = (LIST_QUARANTINE, RETRY_QUARANTINE, DISCARD_QUARANTINE)
