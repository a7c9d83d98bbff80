"""The cohorts stand-in's control over HTTP: `/_sandbox/cohorts…`, beside what `knobs` adds.

PUT     /_sandbox/cohorts                one cohort, or a list: put
GET     /_sandbox/cohorts/ID             it, with its first 1,000 members
DELETE  /_sandbox/cohorts/ID             gone from the list
POST    /_sandbox/cohorts/ID/members     {"add": […], "remove": […]}: computed anew
POST    /_sandbox/cohorts/ID/push        {"url": …, "token": …}: the webhook; differences after
                                         the first time, unless "is_full"
POST    /_sandbox/cohorts/spend          {"exports": n}: others used up so many this month

`?api_key=` names the project; else it is the first.
"""

from itertools import islice
from typing import Annotated, Final

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, NonNegativeInt, TypeAdapter
from yarl import URL

from relay.sandbox.answers import JsonObject
from relay.sandbox.cohort_conditions import CohortConditions
from relay.sandbox.cohort_files import iterate
from relay.sandbox.cohort_messages import PushOptions
from relay.sandbox.cohort_project import Project, StandInCohort
from relay.sandbox.cohort_push import CohortPush
from relay.sandbox.cohorts import CohortsStandIn
from relay.sandbox.control import conflict, json_response, not_found, read_model
from relay.sandbox.knobs import Knobs
from relay.sandbox.onesignal import Target

PREFIX: Final = "/_sandbox/cohorts"
_MEMBERS_SHOWN: Final = 1_000


class PushOrder(PushOptions):
    """One push.

    Attributes:
        url: The hook to send to; None = that of the sandbox's target.
        token: Its token.
        is_full: Whether all members are sent, though the hook was told of some.
    """

    url: str | None = None
    token: str | None = None
    is_full: bool = False


class _Change(BaseModel):
    """Members to add and to remove."""

    model_config = ConfigDict(extra="forbid")

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class _Spending(BaseModel):
    """Exports others asked for."""

    model_config = ConfigDict(extra="forbid")

    exports: NonNegativeInt


def _as_list(value: object) -> object:
    """Take a single cohort for a list of one."""
    return value if isinstance(value, list) else [value]


_COHORTS: Final = TypeAdapter(Annotated[list[StandInCohort], BeforeValidator(_as_list)])
_CHANGE: Final = TypeAdapter(_Change)
_SPENDING: Final = TypeAdapter(_Spending)
_PUSH: Final = TypeAdapter(PushOrder)


class CohortControl:
    """Handlers of the control routes."""

    def __init__(self, stand_in: CohortsStandIn, target: Target | None) -> None:
        self._stand_in = stand_in
        self._target = target
        self._told: dict[str, dict[str, dict[str, None]]] = {}
        self._knobs = Knobs(PREFIX, stand_in, CohortConditions, self.summary)

    def mount(self, app: web.Application) -> None:
        """Add the control routes."""
        self._knobs.mount(app)
        route = app.router.add_route
        route("PUT", PREFIX, self._put)
        route("POST", f"{PREFIX}/spend", self._spend)
        route("GET", f"{PREFIX}/{{cohort_id}}", self._show_one)
        route("DELETE", f"{PREFIX}/{{cohort_id}}", self._remove)
        route("POST", f"{PREFIX}/{{cohort_id}}/members", self._change)
        route("POST", f"{PREFIX}/{{cohort_id}}/push", self._push)

    def summary(self) -> JsonObject:
        """Return the projects with their cohorts, without members."""
        return {
            "downloads_this_month": self._stand_in.downloads_this_month,
            "projects": {
                project.api_key: [_shown(cohort) for cohort in project.cohorts.values()]
                for project in self._stand_in.projects.values()
            },
        }

    async def _put(self, request: web.Request) -> web.Response:
        project = self._project(request)
        for cohort in read_model(_COHORTS, await request.read()):
            self._stand_in.put(cohort, api_key=project.api_key)
        return self._knobs.state()

    async def _spend(self, request: web.Request) -> web.Response:
        spending = read_model(_SPENDING, await request.read())
        self._stand_in.spend(spending.exports, api_key=self._project(request).api_key)
        return self._knobs.state()

    async def _show_one(self, request: web.Request) -> web.Response:
        cohort = self._cohort(request)
        members = list(islice(iterate(cohort.user_ids), _MEMBERS_SHOWN))
        return json_response({**_shown(cohort), "user_ids": members})

    async def _remove(self, request: web.Request) -> web.Response:
        cohort = self._cohort(request)
        self._stand_in.remove(cohort.id, api_key=self._project(request).api_key)
        return self._knobs.state()

    async def _change(self, request: web.Request) -> web.Response:
        cohort = self._cohort(request)
        change = read_model(_CHANGE, await request.read())
        changed = self._stand_in.change(
            cohort.id,
            add=change.add,
            remove=change.remove,
            api_key=self._project(request).api_key,
        )
        return json_response(_shown(changed))

    async def _push(self, request: web.Request) -> web.Response:
        cohort = self._cohort(request)
        order = read_model(_PUSH, await request.read())
        target = self._aim(order)
        push = CohortPush(target, order)
        push.pushed = self._told.setdefault(str(target.url), {})
        account = await push.push(cohort, is_full=order.is_full)
        return json_response(account.summary())

    def _aim(self, order: PushOrder) -> Target:
        usual = self._target
        url = order.url
        if url is None and usual is not None:
            url = str(URL(usual.url).with_name("cohorts"))
        if url is None:
            raise conflict("no target: give a url")
        usual_token = usual.token if usual is not None else ""
        return Target(url, usual_token if order.token is None else order.token)

    def _project(self, request: web.Request) -> Project:
        try:
            return self._stand_in.project(request.query.get("api_key"))
        except (KeyError, StopIteration) as error:
            raise not_found("no project has this api_key") from error

    def _cohort(self, request: web.Request) -> StandInCohort:
        cohort = self._project(request).cohorts.get(request.match_info["cohort_id"])
        if cohort is None:
            raise not_found("no such cohort")
        return cohort


def _shown(cohort: StandInCohort) -> JsonObject:
    return cohort.model_dump(mode="json", exclude={"user_ids"})
