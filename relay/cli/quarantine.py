"""`relay quarantine`: bodies that could not be understood, and what becomes of them."""

from collections.abc import Mapping

import orjson

from relay.cli.admin_api import AdminApi
from relay.cli.desk import Desk
from relay.cli.letter_commands import LetterCommands
from relay.cli.letters import Letters, Words
from relay.cli.local_desk import LocalQuarantine
from relay.cli.output import instant, print_fields, print_json, print_text
from relay.cli.reach import Reach
from relay.http.admin.schemas import Choice, QuarantinedAnswer, QuarantinePage


async def read_page(api: AdminApi, path: str, query: Mapping[str, str]) -> QuarantinePage:
    """Read a page of quarantined bodies from a daemon."""
    return await api.get(path, QuarantinePage, query)


def row(body: QuarantinedAnswer) -> Mapping[str, str]:
    """Return the columns of a list."""
    return {
        "id": str(body.id),
        "app": body.app,
        "hook": body.hook,
        "reason": body.reason,
        "detail": body.detail,
        "received": instant(body.received_at),
    }


def show(body: QuarantinedAnswer) -> None:
    """Show a quarantined body to a person: as JSON if it is some, else as it came."""
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


async def warn_of(desk: Desk[QuarantinedAnswer], choice: Choice) -> str | None:  # noqa: ARG001
    """Warn of nothing: a body that is read again was never sent."""
    return None


commands = LetterCommands(
    Letters(
        reach=Reach("/quarantine", read_page, LocalQuarantine),
        words=Words(
            "quarantined body",
            "quarantined bodies",
            "read and taken in",
            "not found, or still not understood",
        ),
        row=row,
        show=show,
        warn_of=warn_of,
    )
).typer()
