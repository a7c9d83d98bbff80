"""A strict stand-in of Amplitude's Behavioral Cohorts API: list, export, state, file, usage.

    stand_in = CohortsStandIn({"key": "secret"})
    stand_in.put(StandInCohort(id="7khm89cz", name="Paying", user_ids=["user-1"]))
    async with running(stand_in.app()) as url: ...

Every request needs the project's keys. An export is a snapshot of the members at the time
it was asked for. Large files are redirected to a second origin (`cohort_storage`).
"""

import binascii
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from aiohttp import hdrs, web

from relay.clock import Clock, SystemClock
from relay.sandbox import cohort_answers as answers
from relay.sandbox.answers import Answer, JsonObject
from relay.sandbox.cohort_conditions import CohortConditions
from relay.sandbox.cohort_files import FileShape, cohort_download
from relay.sandbox.cohort_limits import month_end
from relay.sandbox.cohort_project import CohortExport, Project, StandInCohort
from relay.sandbox.cohort_storage import Signed, Storage
from relay.sandbox.door import running
from relay.sandbox.downloads import Reply
from relay.sandbox.mishaps import MishapBoard, Operation
from relay.sandbox.responder import Call, Responder

__all__ = ["CohortConditions", "CohortsStandIn", "FileShape", "StandInCohort", "running"]

LIST_PATH: Final = "/api/3/cohorts"
USAGE_PATH: Final = "/api/3/cohorts/usage"
REQUEST_PATH: Final = "/api/5/cohorts/request/{cohort_id}"
STATUS_PATH: Final = "/api/5/cohorts/request-status/{request_id}"
FILE_PATH: Final = "/api/5/cohorts/request/{request_id}/file"
_REST_PATH: Final = "/api/{version:[35]}/cohorts{tail:.*}"

Decision: TypeAlias = Callable[[Project, web.Request], Reply]


class CohortsStandIn:
    """Amplitude's cohorts as relay sees them.

    Attributes:
        projects: By API key; the first is meant where none is named.
        conditions: What stands until changed; change its fields or replace it.
    """

    def __init__(
        self,
        projects: Mapping[str, str],
        *,
        clock: Clock | None = None,
        storage_host: str = "127.0.0.1",
        storage_port: int = 0,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self.projects = {key: Project(key, secret) for key, secret in projects.items()}
        self.conditions = CohortConditions()
        self._responder = Responder(self._clock)
        self._storage = Storage(self._responder, self._clock, storage_host, storage_port)

    @property
    def mishaps(self) -> MishapBoard:
        """What goes wrong at present."""
        return self._responder.mishaps

    @property
    def requests(self) -> deque[Call]:
        """The log of all requests, oldest first; files by link are `link` beside `file`."""
        return self._responder.calls

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
        """Take a cohort in, or in place of the one of the same id; it counts as computed now."""
        return self.project(api_key).put(cohort, self._clock.now_ms())

    def change(
        self,
        cohort_id: str,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        api_key: str | None = None,
    ) -> StandInCohort:
        """Compute a cohort anew with other members.

        Raises:
            KeyError: If there is no such cohort.
        """
        return self.project(api_key).change(cohort_id, add, remove, self._clock.now_ms())

    def remove(self, cohort_id: str, *, api_key: str | None = None) -> None:
        """Take a cohort away; nothing happens if there is none."""
        self.project(api_key).cohorts.pop(cohort_id, None)

    def spend(self, exports: int, *, api_key: str | None = None) -> None:
        """Count exports of this month as if others had asked for them."""
        self.project(api_key).meter.spend(exports, self._clock.now_ms())

    def reset(self) -> None:
        """Forget mishaps, conditions, the log, exports and counts; the cohorts stay."""
        self.mishaps.clear()
        self.conditions = CohortConditions()
        self.requests.clear()
        for project in self.projects.values():
            fresh = Project(project.api_key, project.secret_key)
            project.exports, project.meter = fresh.exports, fresh.meter

    def app(self) -> web.Application:
        """Return an application with this stand-in alone, without control over HTTP."""
        app = web.Application()
        self.mount(app)
        return app

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application; the second origin opens and closes with it."""
        self._responder.mount(app)
        app.cleanup_ctx.append(self._storage.serve)
        self._route(app, LIST_PATH, "list", self._list)
        self._route(app, USAGE_PATH, "usage", self._usage)
        self._route(app, FILE_PATH, "file", self._file)
        self._route(app, STATUS_PATH, "status", self._status)
        self._route(app, REQUEST_PATH, "request", self._request)
        self._route(app, _REST_PATH, "list", lambda _project, _request: answers.refusal(404))

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
            call = self._responder.note(request, operation, "", "")
            refused = project
            return await self._responder.answer(request, call, lambda: refused, answers.refusal)
        subject = _subject(project, request)
        call = self._responder.note(request, operation, project.api_key, subject)
        project.meter.enter()
        try:
            return await self._responder.answer(
                request, call, lambda: self._decide(project, request, decide), answers.refusal
            )
        finally:
            project.meter.leave()

    def _authorise(self, header: str) -> Project | Answer:
        told = _credentials(header)
        if told is None:
            return answers.refusal(401)
        api_key, secret_key = told
        project = self.projects.get(api_key)
        if project is None:
            return answers.refusal(403, answers.UNKNOWN_KEY)
        if secret_key != project.secret_key:
            return answers.refusal(403, answers.WRONG_PAIR)
        return project

    def _decide(self, project: Project, request: web.Request, decide: Decision) -> Reply:
        at_once = self.conditions.limits.at_once
        if project.meter.under_way > at_once:
            return answers.refusal(429, f"Limit of {at_once} concurrent requests exceeded")
        return decide(project, request)

    def _list(self, project: Project, request: web.Request) -> Reply:
        with_sync = request.query.get("includeSyncInfo") == "true"
        shown = [each for each in project.cohorts.values() if each.published]
        return answers.plain_json(
            200, {"cohorts": [cohort.listed(with_sync=with_sync) for cohort in shown]}
        )

    def _request(self, project: Project, request: web.Request) -> Reply:
        now_ms, conditions = self._clock.now_ms(), self.conditions
        cohort = project.cohorts.get(request.match_info["cohort_id"])
        if cohort is None or not cohort.published:
            return answers.refusal(404, "Cohort not found")
        unfinished = project.unfinished(conditions.job, now_ms)
        limit = project.meter.exceeded(conditions.limits, unfinished, now_ms)
        if limit is not None:
            return answers.refusal(429, limit)
        export = project.open_export(cohort, now_ms)
        return answers.plain_json(conditions.accepted_status, _named(export))

    def _status(self, project: Project, request: web.Request) -> Reply:
        export = self._find(project, request)
        if export is None:
            return answers.refusal(404, "Request not found")
        is_done = self.conditions.job.is_done(export, self._clock.now_ms())
        export.polls += 1
        status, word = (200, "JOB COMPLETED") if is_done else (202, "JOB INPROGRESS")
        return answers.plain_json(status, {**_named(export), "async_status": word})

    def _file(self, project: Project, request: web.Request) -> Reply:
        now_ms, export = self._clock.now_ms(), self._find(project, request)
        if export is None or not self.conditions.job.is_done(export, now_ms):
            return answers.refusal(404, "File not found")
        cohort, conditions = export.cohort, self.conditions
        shape = conditions.shape or cohort.shape
        file = cohort_download(cohort.user_ids, cohort.empty_ids, shape)
        is_large = (cohort.size or 0) >= conditions.link_from_rows
        if conditions.delivery == "inline" or (conditions.delivery == "auto" and not is_large):
            return file
        ends_at = now_ms + round(conditions.link_s * 1000)
        signed = Signed(file, project.api_key, cohort.id, ends_at)
        return answers.moved(self._storage.sign(signed, request.url.host))

    def _usage(self, project: Project, _request: web.Request) -> Reply:
        now_ms, conditions = self._clock.now_ms(), self.conditions
        if conditions.usage is None:
            return answers.refusal(404)
        used, limit = project.meter.in_month(now_ms), conditions.limits.per_month
        return answers.usage(conditions.usage, limit, used, month_end(now_ms))

    def _find(self, project: Project, request: web.Request) -> CohortExport | None:
        """Return the export a request names, unless it has expired."""
        export = project.exports.get(request.match_info["request_id"])
        if export is None:
            return None
        age_ms = self._clock.now_ms() - export.requested_at
        return export if age_ms < self.conditions.export_s * 1000 else None


def _named(export: CohortExport) -> JsonObject:
    return {"request_id": export.request_id, "cohort_id": export.cohort.id}


def _subject(project: Project, request: web.Request) -> str:
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
