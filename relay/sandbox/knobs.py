"""What the control of every stand-in of lists and files has: `PREFIX/faults` and the like.

GET     PREFIX              what there is and what stands
GET     PREFIX/requests     ?after= &limit=  the log, oldest first
POST    PREFIX/faults       one mishap or a list: added
PUT     PREFIX/faults       the same: replaces those that are on
DELETE  PREFIX/faults       all off
POST    PREFIX/conditions   the named fields are set
PUT     PREFIX/conditions   the others are lifted too
DELETE  PREFIX/conditions   all lifted
POST    PREFIX/reset        mishaps, conditions, the log, exports and counts
"""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Final, Generic, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from relay.sandbox.answers import JsonObject
from relay.sandbox.control import json_response, read_model
from relay.sandbox.mishaps import Mishap, MishapBoard
from relay.sandbox.responder import Call

Conditions = TypeVar("Conditions", bound=BaseModel)


class StandIn(Protocol[Conditions]):
    """What is turned by the knobs."""

    conditions: Conditions

    @property
    def mishaps(self) -> MishapBoard:
        """What goes wrong at present."""

    @property
    def requests(self) -> deque[Call]:
        """The log."""

    def reset(self) -> None:
        """Forget what happened."""


class _Page(BaseModel):
    """Which lines of the log to show: those after position `after`."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0)
    limit: int = Field(default=100, ge=1, le=10_000)


def _as_list(value: object) -> object:
    """Take a single mishap for a list of one."""
    return value if isinstance(value, list) else [value]


_MISHAPS: Final = TypeAdapter(Annotated[list[Mishap], BeforeValidator(_as_list)])
_PAGE: Final = TypeAdapter(_Page)


class Knobs(Generic[Conditions]):
    """Handlers of these routes."""

    def __init__(
        self,
        prefix: str,
        stand_in: StandIn[Conditions],
        conditions: type[Conditions],
        show: Callable[[], JsonObject],
    ) -> None:
        self._prefix = prefix
        self._stand_in = stand_in
        self._conditions: TypeAdapter[Conditions] = TypeAdapter(conditions)
        self._show_more = show

    def mount(self, app: web.Application) -> None:
        """Add the routes."""
        route, prefix = app.router.add_route, self._prefix
        route("GET", prefix, self._show)
        route("GET", f"{prefix}/requests", self._show_requests)
        route("POST", f"{prefix}/faults", self._add_mishaps)
        route("PUT", f"{prefix}/faults", self._replace_mishaps)
        route("DELETE", f"{prefix}/faults", self._clear_mishaps)
        route("POST", f"{prefix}/conditions", self._change_conditions)
        route("PUT", f"{prefix}/conditions", self._replace_conditions)
        route("DELETE", f"{prefix}/conditions", self._lift_conditions)
        route("POST", f"{prefix}/reset", self._reset)

    def state(self) -> web.Response:
        """Return the answer that shows everything."""
        return json_response(
            {
                **self._show_more(),
                "requests": len(self._stand_in.requests),
                "faults": self._stand_in.mishaps.describe(),
                "conditions": self._stand_in.conditions.model_dump(mode="json"),
            }
        )

    async def _show(self, _request: web.Request) -> web.Response:
        return self.state()

    async def _show_requests(self, request: web.Request) -> web.Response:
        page = read_model(_PAGE, dict(request.query))
        known, end = self._stand_in.requests, page.after + page.limit
        items = [asdict(call) for call in islice(known, page.after, end)]
        return json_response({"items": items, "next": end if end < len(known) else None})

    async def _add_mishaps(self, request: web.Request) -> web.Response:
        for mishap in read_model(_MISHAPS, await request.read()):
            self._stand_in.mishaps.arm(mishap)
        return self.state()

    async def _replace_mishaps(self, request: web.Request) -> web.Response:
        mishaps = read_model(_MISHAPS, await request.read())
        self._stand_in.mishaps.clear()
        for mishap in mishaps:
            self._stand_in.mishaps.arm(mishap)
        return self.state()

    async def _clear_mishaps(self, _request: web.Request) -> web.Response:
        self._stand_in.mishaps.clear()
        return self.state()

    async def _change_conditions(self, request: web.Request) -> web.Response:
        told = read_model(self._conditions, await request.read()).model_dump(exclude_unset=True)
        kept = self._stand_in.conditions.model_dump()
        self._stand_in.conditions = self._conditions.validate_python(_merged(kept, told))
        return self.state()

    async def _replace_conditions(self, request: web.Request) -> web.Response:
        self._stand_in.conditions = read_model(self._conditions, await request.read())
        return self.state()

    async def _lift_conditions(self, _request: web.Request) -> web.Response:
        self._stand_in.conditions = self._conditions.validate_python({})
        return self.state()

    async def _reset(self, _request: web.Request) -> web.Response:
        self._stand_in.reset()
        return self.state()


def _merged(kept: JsonObject, told: JsonObject) -> JsonObject:
    """Return `kept` with what was told in its place, deep inside too."""
    merged = dict(kept)
    for name, value in told.items():
        before = kept.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[name] = _merged(before, value)
        else:
            merged[name] = value
    return merged
