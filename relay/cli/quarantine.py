"""`relay quarantine`: bodies that could not be understood, and what to do with them."""

from collections.abc import Mapping

import orjson
from rich.text import Text

from relay.cli.data_access import QUARANTINE, call
from relay.cli.items import ItemCommands, Kind
from relay.cli.output import instant, print_fields, print_json, print_text
from relay.http.admin.quarantine import DISCARD_QUARANTINE, LIST_QUARANTINE, RETRY_QUARANTINE
from relay.http.admin.schemas import Choice, QuarantinedAnswer
from relay.settings import Settings


def _cells(body: QuarantinedAnswer) -> Mapping[str, str | Text]:
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


def _retry(settings: Settings, choice: Choice) -> int:
    return call(settings, QUARANTINE, RETRY_QUARANTINE, choice).affected


commands = ItemCommands(
    Kind(
        one="quarantined body",
        many="quarantined bodies",
        retried="read and taken in",
        unretried="not found, or still not understood",
        list=LIST_QUARANTINE,
        retry=_retry,
        discard=DISCARD_QUARANTINE,
        cells=_cells,
        show=_show,
    )
).typer()
