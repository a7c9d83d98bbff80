"""The Amplitude stand-in's control over HTTP: `/_sandbox/amplitude…`.

GET     /_sandbox/amplitude                     ledger summary, faults, conditions
GET     /_sandbox/amplitude/events              ?api_key= &after= &limit=
POST    /_sandbox/amplitude/faults              one fault or a list: added
PUT     /_sandbox/amplitude/faults              the same: replaces those that are on
DELETE  /_sandbox/amplitude/faults              all off
POST    /_sandbox/amplitude/conditions          the named fields are set
PUT     /_sandbox/amplitude/conditions          the others are lifted too
DELETE  /_sandbox/amplitude/conditions          all lifted
POST    /_sandbox/amplitude/reset               ledger, faults and conditions
"""

from typing import Annotated, Final

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from relay.sandbox.amplitude import AmplitudeStandIn
from relay.sandbox.conditions import Conditions
from relay.sandbox.control import bad_request, json_response, read_model
from relay.sandbox.faults import Fault

PREFIX: Final = "/_sandbox/amplitude"


class _Page(BaseModel):
    """Which events to show: those after position `after`."""

    model_config = ConfigDict(extra="forbid")

    api_key: str | None = None
    after: int = Field(default=0, ge=0)
    limit: int = Field(default=100, ge=1, le=10_000)


def _as_list(value: object) -> object:
    """Take a single fault for a list of one."""
    return value if isinstance(value, list) else [value]


_FAULTS: Final = TypeAdapter(Annotated[list[Fault], BeforeValidator(_as_list)])
_PAGE: Final = TypeAdapter(_Page)
_CONDITIONS: Final = TypeAdapter(Conditions)


class AmplitudeControl:
    """Handlers of the control routes."""

    def __init__(self, amplitude: AmplitudeStandIn) -> None:
        self._amplitude = amplitude

    def mount(self, app: web.Application) -> None:
        """Add the control routes."""
        route = app.router.add_route
        route("GET", PREFIX, self._show)
        route("GET", f"{PREFIX}/events", self._show_events)
        route("POST", f"{PREFIX}/faults", self._add_faults)
        route("PUT", f"{PREFIX}/faults", self._replace_faults)
        route("DELETE", f"{PREFIX}/faults", self._clear_faults)
        route("POST", f"{PREFIX}/conditions", self._change_conditions)
        route("PUT", f"{PREFIX}/conditions", self._replace_conditions)
        route("DELETE", f"{PREFIX}/conditions", self._lift_conditions)
        route("POST", f"{PREFIX}/reset", self._reset)

    async def _show(self, _request: web.Request) -> web.Response:
        return self._state()

    async def _show_events(self, request: web.Request) -> web.Response:
        page = read_model(_PAGE, dict(request.query))
        api_key = page.api_key or min(self._amplitude.api_keys, default="")
        account = self._amplitude.ledger.account(api_key)
        end = page.after + page.limit
        known = len(account.insert_ids)
        return json_response(
            {
                "api_key": api_key,
                "items": account.events[page.after : end],
                "insert_ids": account.insert_ids[page.after : end],
                "next": end if end < known else None,
            }
        )

    async def _add_faults(self, request: web.Request) -> web.Response:
        for fault in await self._read_faults(request):
            self._amplitude.faults.arm(fault)
        return self._state()

    async def _replace_faults(self, request: web.Request) -> web.Response:
        faults = await self._read_faults(request)
        self._amplitude.faults.clear()
        for fault in faults:
            self._amplitude.faults.arm(fault)
        return self._state()

    async def _read_faults(self, request: web.Request) -> list[Fault]:
        faults = read_model(_FAULTS, await request.read())
        if any(fault.name == "refuse" and fault.seconds is None for fault in faults):
            raise bad_request("refuse needs seconds: a closed door cannot be opened from outside")
        return faults

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._amplitude.faults.clear()
        return self._state()

    async def _change_conditions(self, request: web.Request) -> web.Response:
        changes = read_model(_CONDITIONS, await request.read())
        kept = self._amplitude.conditions.model_dump()
        told = changes.model_dump(include=changes.model_fields_set)
        self._amplitude.conditions = Conditions.model_validate({**kept, **told})
        return self._state()

    async def _replace_conditions(self, request: web.Request) -> web.Response:
        self._amplitude.conditions = read_model(_CONDITIONS, await request.read())
        return self._state()

    async def _lift_conditions(self, _request: web.Request) -> web.Response:
        self._amplitude.conditions = Conditions()
        return self._state()

    async def _reset(self, _request: web.Request) -> web.Response:
        self._amplitude.reset()
        return self._state()

    def _state(self) -> web.Response:
        return json_response(
            {
                "ledger": self._amplitude.ledger.summary(),
                "faults": self._amplitude.faults.describe(),
                "conditions": self._amplitude.conditions.model_dump(mode="json"),
            }
        )
