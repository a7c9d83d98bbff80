"""The control API of the cohorts, below `/_sandbox/cohorts`, beside the routes of `control_api`.

GET     /_sandbox/cohorts/requests       ?after= &limit=  the log, oldest first
PUT     /_sandbox/cohorts                one cohort, or a list: put
POST    /_sandbox/cohorts/spend          {"exports": n}: others used up n this month
GET     /_sandbox/cohorts/ID             the cohort, with its first 1,000 members
DELETE  /_sandbox/cohorts/ID             gone from the list
POST    /_sandbox/cohorts/ID/members     {"add": […], "remove": […]}: computed again
POST    /_sandbox/cohorts/ID/push        {"url": …, "token": …}: the webhook; differences after
                                         the first time, unless "is_full"

`?api_key=` names the project; else it is the first.
"""

from itertools import islice
from typing import Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter
from yarl import URL

from relay.sandbox.cohorts.conditions import CohortConditions
from relay.sandbox.cohorts.files import iterate
from relay.sandbox.cohorts.project import Project, StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.cohorts.webhook import CohortPush, PushOptions
from relay.sandbox.common.control_api import ControlApi, OneOrMany, list_calls, read_body, refuse
from relay.sandbox.common.faults import ApiFault
from relay.sandbox.common.replies import JsonObject
from relay.sandbox.common.target import Target

_MEMBERS_SHOWN: Final = 1_000


class PushOrder(PushOptions):
    """One push.

    Attributes:
        url: The hook to send to; None = the one beside the sandbox's target.
        token: Its token.
        is_full: Whether all members are sent, even if the hook has been sent some.
    """

    url: str | None = None
    token: str | None = None
    is_full: bool = False


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid")

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class _Spending(BaseModel):
    model_config = ConfigDict(extra="forbid")

    exports: NonNegativeInt


_COHORTS: Final = TypeAdapter(OneOrMany[StandInCohort])


class CohortControl:
    """Handlers of the control routes.

    Attributes:
        api: The control API.
    """

    def __init__(self, stand_in: CohortsStandIn, target: Target | None) -> None:
        self._stand_in = stand_in
        self._target = target
        self._pushed: dict[str, dict[str, dict[str, None]]] = {}
        self.api: ControlApi[ApiFault, CohortConditions] = ControlApi(
            "/_sandbox/cohorts",
            stand_in,
            TypeAdapter(OneOrMany[ApiFault]),
            lambda: {**self.summary(), "requests": len(stand_in.requests)},
            {
                # Before the routes with an id, which would match these words too.
                "GET /requests": list_calls(stand_in.requests),
                "PUT": self._put,
                "POST /spend": self._spend,
                "GET /{cohort_id}": self._show_one,
                "DELETE /{cohort_id}": self._remove,
                "POST /{cohort_id}/members": self._change,
                "POST /{cohort_id}/push": self._push,
            },
        )

    def summary(self) -> JsonObject:
        """Return the projects with their cohorts, without members."""
        return {
            "downloads_this_month": self._stand_in.downloads_this_month,
            "projects": {
                project.api_key: [_shown(cohort) for cohort in project.cohorts.values()]
                for project in self._stand_in.projects.values()
            },
        }

    async def _put(self, request: web.Request) -> None:
        project = self._project(request)
        for cohort in await read_body(request, _COHORTS.validate_json):
            self._stand_in.put(cohort, api_key=project.api_key)

    async def _spend(self, request: web.Request) -> None:
        spending = await read_body(request, _Spending.model_validate_json)
        self._stand_in.spend(spending.exports, api_key=self._project(request).api_key)

    async def _show_one(self, request: web.Request) -> JsonObject:
        cohort = self._cohort(request)
        members = list(islice(iterate(cohort.user_ids), _MEMBERS_SHOWN))
        return {**_shown(cohort), "user_ids": members}

    async def _remove(self, request: web.Request) -> None:
        cohort = self._cohort(request)
        self._stand_in.remove(cohort.id, api_key=self._project(request).api_key)

    async def _change(self, request: web.Request) -> JsonObject:
        cohort, project = self._cohort(request), self._project(request)
        change = await read_body(request, _Change.model_validate_json)
        return _shown(
            self._stand_in.change(
                cohort.id, add=change.add, remove=change.remove, api_key=project.api_key
            )
        )

    async def _push(self, request: web.Request) -> JsonObject:
        cohort = self._cohort(request)
        order = await read_body(request, PushOrder.model_validate_json)
        target = self._aim(order)
        push = CohortPush(target, order)
        push.pushed = self._pushed.setdefault(str(target.url), {})
        account = await push.push(cohort, is_full=order.is_full)
        return account.summary()

    def _aim(self, order: PushOrder) -> Target:
        if self._target is not None:
            beside = Target(URL(self._target.url).with_name("cohorts"), self._target.token)
            return beside.redirected(order.url, order.token)
        if order.url is None:
            raise refuse(web.HTTPConflict, "no target: give a url")
        return Target(order.url, order.token or "")

    def _project(self, request: web.Request) -> Project:
        try:
            return self._stand_in.project(request.query.get("api_key"))
        except (KeyError, StopIteration) as error:
            raise refuse(web.HTTPNotFound, "no project has this api_key") from error

    def _cohort(self, request: web.Request) -> StandInCohort:
        cohort = self._project(request).cohorts.get(request.match_info["cohort_id"])
        if cohort is None:
            raise refuse(web.HTTPNotFound, "no such cohort")
        return cohort


def _shown(cohort: StandInCohort) -> JsonObject:
    return cohort.model_dump(mode="json", exclude={"user_ids"})
