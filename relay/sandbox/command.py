"""`relay sandbox`: the stand-ins alone, for trying relay out and for breaking things."""

import re
import signal
from functools import partial
from typing import Annotated, Final

import anyio
import typer
from pydantic import ValidationError
from yarl import URL

from relay.sandbox.common.control_api import explain
from relay.sandbox.common.faults import UPLOAD_FAULT_NAMES, UploadFault
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.source import TrafficOrder
from relay.sandbox.onesignal.templates import Shape
from relay.sandbox.options import (
    DEFAULT_API_KEY,
    DEFAULT_APP_ID,
    DEFAULT_ONESIGNAL_KEY,
    DEFAULT_SECRET_KEY,
    SandboxOptions,
)
from relay.sandbox.server import serve_sandbox

_LIMIT: Final = re.compile(r"(?P<count>\d+)|(?P<seconds>\d+(\.\d+)?)s")
_ADDRESS: Final = re.compile(r"\[?(?P<host>[^\[\]]+)\]?:(?P<port>\d{1,5})")
_MAX_PORT: Final = 65_535
_NAMES: Final = " ".join(UPLOAD_FAULT_NAMES)


AnyKey = Annotated[bool, typer.Option("--accept-any-key", help="Take uploads under every key.")]
Faults = Annotated[
    list[str] | None,
    typer.Option(help=f"NAME, NAME:COUNT or NAME:SECONDSs; stored_NAME stores first. {_NAMES}"),
]
Throttled = Annotated[list[str] | None, typer.Option(help="Device or user id that is throttled.")]
ApiKeys = Annotated[
    list[str] | None, typer.Option(help=f"Known Amplitude key; else {DEFAULT_API_KEY}.")
]
EventCount = Annotated[
    int | None, typer.Option(min=1, help="Number of events to send at once to --target.")
]
SecretKey = Annotated[str, typer.Option(help="Secret key of the projects, for their cohorts.")]
OneSignalKey = Annotated[str, typer.Option(help="REST API key of the app, for its export.")]
People = Annotated[int, typer.Option(min=0, help="Number of users in the cohorts and the export.")]


def sandbox(  # noqa: PLR0913 - a parameter is an option
    *,
    listen: Annotated[str, typer.Option(help="Address and port.")] = "127.0.0.1:9090",
    api_key: ApiKeys = None,
    accept_any_key: AnyKey = False,
    fault: Faults = None,
    throttle: Throttled = None,
    target: Annotated[str | None, typer.Option(help="Hook the traffic goes to.")] = None,
    token: Annotated[str, typer.Option(help="Webhook token of that hook.")] = "",
    app_id: Annotated[str, typer.Option(help="OneSignal app of the events.")] = DEFAULT_APP_ID,
    events: EventCount = None,
    rate: Annotated[float | None, typer.Option(help="Events per second; else a burst.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other events.")] = 1,
    shape: Annotated[Shape, typer.Option(help="Layout of the bodies.")] = "relay",
    secret_key: SecretKey = DEFAULT_SECRET_KEY,
    onesignal_key: OneSignalKey = DEFAULT_ONESIGNAL_KEY,
    people: People = 300,
) -> None:
    """Run stand-ins for OneSignal and Amplitude, with faults to switch on."""
    if events is not None and target is None:
        raise typer.BadParameter("--events needs --target")
    options = SandboxOptions(
        *parse_address(listen),
        api_keys=tuple(api_key or (DEFAULT_API_KEY,)),
        accepts_any_key=accept_any_key,
        faults=tuple(parse_fault(text) for text in fault or ()),
        throttled=tuple(throttle or ()),
        target=None if target is None else Target(URL(target), token),
        app_id=app_id,
        order=None if events is None else _order(events, rate, seed, shape),
        secret_key=secret_key,
        onesignal_key=onesignal_key,
        people=people,
    )
    if (failure := anyio.run(_serve_until_signal, options)) is not None:
        typer.echo(f"cannot listen on {listen}: {failure}", err=True)
        raise typer.Exit(1)


async def _serve_until_signal(options: SandboxOptions) -> str | None:
    """Serve until SIGINT or SIGTERM; return why that was impossible."""
    failures: list[str] = []
    try:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(serve_sandbox, options, say=typer.echo), name="sandbox")
                await anext(aiter(signals))
                tasks.cancel_scope.cancel()
    except* OSError as group:
        failures.extend(str(error) for error in group.exceptions)
    return "; ".join(failures) or None


def _order(events: int, rate: float | None, seed: int, shape: Shape) -> TrafficOrder:
    try:
        return TrafficOrder(events=events, rate_per_s=rate, seed=seed, shape=shape)
    except ValidationError as error:
        raise typer.BadParameter(explain(error)) from error


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        typer.BadParameter: If the text is not of that form.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise typer.BadParameter(f"{text} is no HOST:PORT")
    return match["host"], int(match["port"])


def parse_fault(text: str) -> UploadFault:
    """Return the fault of `NAME`, `NAME:COUNT` or `NAME:SECONDSs`.

    Raises:
        typer.BadParameter: If there is no such fault, or its limit is nonsense.
    """
    name, colon, tail = text.partition(":")
    limit = _LIMIT.fullmatch(tail) if colon else None
    if colon and limit is None:
        raise typer.BadParameter(f"{text}: after the colon goes a count (3) or seconds (5s)")
    limits = {} if limit is None else {k: v for k, v in limit.groupdict().items() if v}
    try:
        return UploadFault.model_validate({"name": name, **limits})
    except ValidationError as error:
        raise typer.BadParameter(f"{text}: {explain(error)}") from error
