"""The control API below `/_sandbox/`: JSON in, JSON out, clear refusals.

A stand-in declares its routes in a table; a handler that returns nothing answers with
the state. Every stand-in with faults and conditions has these:

GET     PREFIX              what there is, and what is switched on
POST    PREFIX/faults       one fault or a list: added
PUT     PREFIX/faults       the same: replaces those that are on
DELETE  PREFIX/faults       all off
POST    PREFIX/conditions   the named fields are set
PUT     PREFIX/conditions   the others return to their defaults too
DELETE  PREFIX/conditions   all return to their defaults
POST    PREFIX/reset        faults, conditions, and what was counted
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice
from typing import Annotated, Generic, Protocol, TypeAlias, TypeVar

import orjson
from aiohttp import web
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from relay.sandbox.common.active_faults import ActiveFaults, FaultT
from relay.sandbox.common.replies import JsonObject
from relay.sandbox.common.responder import Call, ConditionsT

Item = TypeVar("Item")
Value = TypeVar("Value")
Data = TypeVar("Data")
Model = TypeVar("Model", bound=BaseModel)
Handler: TypeAlias = Callable[[web.Request], Awaitable[JsonObject | web.Response | None]]


class Page(BaseModel):
    """The part of a list to show: `limit` items after position `after`."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0)
    limit: int = Field(default=100, ge=1, le=10_000)


def paged(items: Collection[object], page: Page) -> JsonObject:
    """Return a page, and where the next one begins; None = nowhere."""
    end = page.after + page.limit
    return {
        "items": list(islice(items, page.after, end)),
        "next": end if end < len(items) else None,
    }


def list_calls(calls: Collection[Call]) -> Handler:
    """Return the handler of `GET PREFIX/requests`, the log from the oldest on."""

    async def handle(request: web.Request) -> JsonObject:
        page = check(Page.model_validate, dict(request.query))
        return paged([call.as_json() for call in calls], page)

    return handle


def refuse(kind: type[web.HTTPClientError], message: str) -> web.HTTPClientError:
    """Return the refusal to raise, with a readable sentence."""
    text = orjson.dumps({"error": message}).decode()
    return kind(text=text, content_type="application/json")


def check(validate: Callable[[Data], Value], data: Data) -> Value:
    """Return what a body or a query says.

    Raises:
        web.HTTPBadRequest: If it is not valid; the answer tells why.
    """
    try:
        return validate(data)
    except ValidationError as error:
        raise refuse(web.HTTPBadRequest, explain(error)) from error


async def read_body(request: web.Request, validate: Callable[[bytes], Value]) -> Value:
    """Return what a JSON body says; an empty one is `{}`.

    Raises:
        web.HTTPBadRequest: If it is not valid; the answer tells why.
    """
    return check(validate, await request.read() or b"{}")


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


OneOrMany: TypeAlias = Annotated[list[Item], BeforeValidator(_as_list)]
"""A list, or a single item for a list of one."""


def explain(error: ValidationError) -> str:
    """Return the mistakes in one line, each with its place."""
    mistakes = error.errors(include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, mistake['loc'])) or 'body'}: {mistake['msg']}" for mistake in mistakes
    )


def json_response(body: Mapping[str, object], status: int = 200) -> web.Response:
    """Return `body` indented, as people read it too."""
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=text, content_type="application/json")


def add_routes(
    app: web.Application,
    prefix: str,
    state: Callable[[], JsonObject],
    routes: Mapping[str, Handler],
) -> None:
    """Add handlers by `METHOD /path` below a prefix; without a result they show `state`."""

    def responding(handle: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def respond(request: web.Request) -> web.Response:
            body = await handle(request)
            if isinstance(body, web.Response):
                return body
            return json_response(state() if body is None else body)

        return respond

    for route, handle in routes.items():
        method, _, path = route.partition(" ")
        app.router.add_route(method, prefix + path, responding(handle))


async def show_state(_request: web.Request) -> None:
    """Change nothing."""


class StandIn(Protocol[FaultT, ConditionsT]):
    """What the control API controls."""

    conditions: ConditionsT

    @property
    def faults(self) -> ActiveFaults[FaultT]:
        """What is switched on."""

    def reset(self) -> None:
        """Forget what happened."""


class ControlApi(Generic[FaultT, ConditionsT]):
    """The control routes of one stand-in."""

    def __init__(
        self,
        prefix: str,
        stand_in: StandIn[FaultT, ConditionsT],
        faults: TypeAdapter[list[FaultT]],
        summary: Callable[[], JsonObject],
        routes: Mapping[str, Handler],
    ) -> None:
        self._prefix = prefix
        self._stand_in = stand_in
        self._faults = faults
        self._summary = summary
        self._conditions = type(stand_in.conditions)
        self._routes = {
            "GET": show_state,
            "POST /faults": self._set_faults,
            "PUT /faults": self._set_faults,
            "DELETE /faults": self._clear_faults,
            "POST /conditions": self._set_conditions,
            "PUT /conditions": self._set_conditions,
            "DELETE /conditions": self._clear_conditions,
            "POST /reset": self._reset,
            **routes,
        }

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application."""
        add_routes(app, self._prefix, self._state, self._routes)

    def _state(self) -> JsonObject:
        return {
            **self._summary(),
            "faults": self._stand_in.faults.describe(),
            "conditions": self._stand_in.conditions.model_dump(mode="json"),
        }

    async def _set_faults(self, request: web.Request) -> None:
        active = self._stand_in.faults
        faults = await read_body(request, self._faults.validate_json)
        if any(fault.closes_door and fault.seconds is None for fault in faults):
            message = "refuse needs seconds: a closed door cannot be opened from outside"
            raise refuse(web.HTTPBadRequest, message)
        if request.method == "PUT":
            active.clear()
        active.arm(*faults)

    async def _clear_faults(self, _request: web.Request) -> None:
        self._stand_in.faults.clear()

    async def _set_conditions(self, request: web.Request) -> None:
        conditions = await read_body(request, self._conditions.model_validate_json)
        if request.method == "POST":
            conditions = _merge(self._stand_in.conditions, conditions)
        self._stand_in.conditions = conditions

    async def _clear_conditions(self, _request: web.Request) -> None:
        self._stand_in.conditions = self._conditions()

    async def _reset(self, _request: web.Request) -> None:
        self._stand_in.reset()


def _merge(kept: Model, changes: BaseModel) -> Model:
    """Return `kept` with the fields that `changes` sets; a field that is a model is merged."""
    # Dicts are replaced, not merged: they are values such as ids and rates, not settings.
    update: JsonObject = {}
    for name in changes.model_fields_set:
        before, value = getattr(kept, name), getattr(changes, name)
        is_model = isinstance(before, BaseModel) and isinstance(value, BaseModel)
        update[name] = _merge(before, value) if is_model else value
    return kept.model_copy(update=update)
