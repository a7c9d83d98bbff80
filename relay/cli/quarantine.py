"""`relay quarantine`: bodies that could not be understood, and what to do with them."""

from collections.abc import Mapping

import orjson

from relay.cli.data_access import QUARANTINE, open_client
from relay.cli.items import ItemCommands, Kind
from relay.cli.output import instant, print_fields, print_json, print_text
from relay.http.admin.quarantine import DISCARD_QUARANTINE, LIST_QUARANTINE, RETRY_QUARANTINE
from relay.http.admin.schemas import Choice, QuarantinedAnswer
from relay.settings import Settings


def _row(body: QuarantinedAnswer) -> Mapping[str, str]:
    return {
        "id": str(body.id),
        "app": body.app,
        "hook": body.hook,
        "reason": body.reason,
        "detail": body.detail,
        "received": instant(body.received_at),
    }


def _show(body: QuarantinedAnswer) -> None:
    """Print a body: indented if it is JSON, else unchanged."""
    print_fields(
        {
            "id": str(body.id),
            "app": body.app,
            "hook": body.hook,
            "reason": body.reason,
            "detail": body.detail,
            "received": instant(body.received_at),
            "encoding": body.encoding,
        }
    )
    try:
        print_json(orjson.loads(body.body))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # the latter if nested absurdly deep
        print_text(body.body)


async def _retry(settings: Settings, choice: Choice) -> int:
    async with open_client(settings, QUARANTINE) as client:
        return (await client.call(RETRY_QUARANTINE, choice)).affected


commands = ItemCommands(
    Kind(
        one="quarantined body",
        many="quarantined bodies",
        retried="read and taken in",
        unretried="not found, or still not understood",
        list=LIST_QUARANTINE,
        retry=_retry,
        discard=DISCARD_QUARANTINE,
        row=_row,
        show=_show,
    )
).typer()
