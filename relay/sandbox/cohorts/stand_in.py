"""A strict stand-in of Amplitude's Behavioral Cohorts API: list, export, status, file, usage.

    stand_in = CohortsStandIn({"key": "secret"})
    stand_in.put(StandInCohort(id="7khm89cz", name="Paying", user_ids=["user-1"]))
    async with running(stand_in.app()) as url: ...

Every request needs the project's keys. An export is a snapshot of the members at the time
of its request. Large files are redirected to a second origin (`storage`).
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeAlias

from aiohttp import hdrs, web

from relay.clock import Clock
from relay.sandbox.cohorts import answers
from relay.sandbox.cohorts.conditions import CohortConditions
from relay.sandbox.cohorts.files import cohort_download
from relay.sandbox.cohorts.project import CohortExport, Project, StandInCohort, month_end
from relay.sandbox.cohorts.storage import ObjectStorage, SignedLink
from relay.sandbox.common.faults import Operation
from relay.sandbox.common.replies import Answer, Reply, json_answer
from relay.sandbox.common.responder import ApiStandIn

Decision: TypeAlias = Callable[[Project, web.Request], Reply]


class CohortsStandIn(ApiStandIn[CohortConditions]):
    """Amplitude's cohorts as relay sees them.

    Attributes:
        projects: By API key; where none is named, the first is meant.
    """

    def __init__(
        self,
        projects: Mapping[str, str],
        *,
        clock: Clock | None = None,
        storage_host: str = "127.0.0.1",
        storage_port: int = 0,
    ) -> None:
        super().__init__(CohortConditions, clock)
        self.projects = {key: Project(key, secret) for key, secret in projects.items()}
        self._storage = ObjectStorage(self, self._clock, storage_host, storage_port)

    @property
    def downloads_this_month(self) -> int:
        """Exports of this month, of all projects."""
        now_ms = self._clock.now_ms()
        return sum(project.meter.in_month(now_ms) for project in self.projects.values())

    def project(self, api_key: str | None = None) -> Project:
        """Return a project; the first one if none is named.

        Raises:
            KeyError: If there is no such project.
        """
        return self.projects[next(iter(self.projects)) if api_key is None else api_key]

    def put(self, cohort: StandInCohort, *, api_key: str | None = None) -> StandInCohort:
        """Add a cohort, or replace the one of the same id; it counts as computed now."""
        return self.project(api_key).put(cohort, self._clock.now_ms())

    def change(
        self,
        cohort_id: str,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        api_key: str | None = None,
    ) -> StandInCohort:
        """Compute a cohort again with other members.

        Raises:
            KeyError: If there is no such cohort.
        """
        return self.project(api_key).change(cohort_id, add, remove, self._clock.now_ms())

    def remove(self, cohort_id: str, *, api_key: str | None = None) -> None:
        """Remove a cohort; no effect if there is none."""
        self.project(api_key).cohorts.pop(cohort_id, None)

    def spend(self, exports: int, *, api_key: str | None = None) -> None:
        """Count exports of this month as if others had asked for them."""
        self.project(api_key).meter.spend(exports, self._clock.now_ms())

    def reset(self) -> None:
        """Forget faults, conditions, the log, exports and counts; the cohorts stay."""
        super().reset()
        for project in self.projects.values():
            fresh = Project(project.api_key, project.secret_key)
            project.exports, project.meter = fresh.exports, fresh.meter

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application; the second origin opens and closes with it."""
        super().mount(app)
        app.cleanup_ctx.append(self._storage.serve)
        route = partial(self._route, app)
        route("/api/3/cohorts", "list", self._list)
        route("/api/3/cohorts/usage", "usage", self._usage)
        route("/api/5/cohorts/request/{request_id}/file", "file", self._file)
        route("/api/5/cohorts/request-status/{request_id}", "status", self._status)
        route("/api/5/cohorts/request/{cohort_id}", "request", self._request)
        route("/api/{version:[35]}/cohorts{tail:.*}", "list", lambda *_: answers.error(404))

    def _route(
        self, app: web.Application, path: str, operation: Operation, decide: Decision
    ) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._answer(request, operation, decide)

        app.router.add_get(path, handle, allow_head=False)

    async def _answer(
        self, request: web.Request, operation: Operation, decide: Decision
    ) -> web.StreamResponse:
        project = self._authorise(request.headers.get(hdrs.AUTHORIZATION, ""))
        if isinstance(project, Answer):
            # Logged without an account: a wrong pair proves no project.
            refused = project
            call = self.log(request, operation)
            return await self.complete(request, call, lambda: refused, answers.error)
        call = self.log(request, operation, project.api_key, _cohort_id(project, request))
        project.meter.enter()
        try:
            return await self.complete(
                request, call, lambda: self._decide(project, request, decide), answers.error
            )
        finally:
            project.meter.leave()

    def _authorise(self, header: str) -> Project | Answer:
        credentials = _credentials(header)
        if credentials is None:
            return answers.error(401)
        api_key, secret_key = credentials
        project = self.projects.get(api_key)
        if project is None:
            return answers.error(403, answers.UNKNOWN_KEY)
        if secret_key != project.secret_key:
            return answers.error(403, answers.WRONG_PAIR)
        return project

    def _decide(self, project: Project, request: web.Request, decide: Decision) -> Reply:
        # This request is counted already, so `at_once` others make it one too many.
        at_once = self.conditions.limits.at_once
        if project.meter.unanswered > at_once:
            return answers.error(429, f"Limit of {at_once} concurrent requests exceeded")
        return decide(project, request)

    def _list(self, project: Project, request: web.Request) -> Reply:
        # Unpublished cohorts exist for nobody: neither listed here nor exported.
        with_sync = request.query.get("includeSyncInfo") == "true"
        shown = [each for each in project.cohorts.values() if each.published]
        return json_answer(
            200, {"cohorts": [cohort.listed(with_sync=with_sync) for cohort in shown]}
        )

    def _request(self, project: Project, request: web.Request) -> Reply:
        now_ms, conditions = self._clock.now_ms(), self.conditions
        cohort = project.cohorts.get(request.match_info["cohort_id"])
        if cohort is None or not cohort.published:
            return answers.error(404, "Cohort not found")
        unfinished = project.unfinished(conditions.job, now_ms)
        limit = project.meter.exceeded(conditions.limits, unfinished, now_ms)
        if limit is not None:
            # A refused request costs nothing: only an export counts.
            return answers.error(429, limit)
        export = project.open_export(cohort, now_ms)
        return json_answer(conditions.accepted_status, export.as_json())

    def _status(self, project: Project, request: web.Request) -> Reply:
        export = self._find(project, request)
        if export is None:
            return answers.error(404, "Request not found")
        is_done = export.is_done(self.conditions.job, self._clock.now_ms())
        export.polls += 1
        status, word = (200, "JOB COMPLETED") if is_done else (202, "JOB INPROGRESS")
        return json_answer(status, {**export.as_json(), "async_status": word})

    def _file(self, project: Project, request: web.Request) -> Reply:
        now_ms, export = self._clock.now_ms(), self._find(project, request)
        if export is None or not export.is_done(self.conditions.job, now_ms):
            return answers.error(404, "File not found")
        cohort, conditions = export.cohort, self.conditions
        shape = conditions.shape or cohort.shape
        file = cohort_download(cohort.user_ids, cohort.empty_ids, shape)
        is_large = (cohort.size or 0) >= conditions.link_from_rows
        if conditions.delivery == "inline" or (conditions.delivery == "auto" and not is_large):
            return file
        ends_at = now_ms + round(conditions.link_s * 1000)
        link = SignedLink(file, project.api_key, cohort.id, ends_at)
        return answers.moved(self._storage.sign(link, request.url.host))

    def _usage(self, project: Project, _request: web.Request) -> Reply:
        now_ms, conditions = self._clock.now_ms(), self.conditions
        if conditions.usage is None:
            return answers.error(404)
        used, limit = project.meter.in_month(now_ms), conditions.limits.per_month
        return answers.usage(conditions.usage, limit, used, month_end(now_ms))

    def _find(self, project: Project, request: web.Request) -> CohortExport | None:
        """Return the export a request names, unless it has expired."""
        export = project.exports.get(request.match_info["request_id"])
        if export is None:
            return None
        age_ms = self._clock.now_ms() - export.requested_at
        return export if age_ms < self.conditions.export_s * 1000 else None


def _cohort_id(project: Project, request: web.Request) -> str:
    """Return the id of the cohort a request is about."""
    export = project.exports.get(request.match_info.get("request_id", ""))
    return request.match_info.get("cohort_id", "") if export is None else export.cohort.id


def _credentials(header: str) -> tuple[str, str] | None:
    """Return user and password of a Basic authentication; None if it is none."""
    scheme, _, packed = header.partition(" ")
    try:
        user, colon, password = b64decode(packed, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if scheme.lower() == "basic" and colon else None
