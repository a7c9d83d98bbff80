"""A strict stand-in of OneSignal's CSV export: `POST /players/csv_export`, and the file.

    stand_in = CsvExportStandIn({APP_ID: "key"})
    stand_in.put([Subscriber("user-1", "a3f1c8d2-…")])
    async with running(stand_in.app()) as url: ...

One export runs at a time. Its file is not ready at first. The file's URL cannot be guessed
and needs no key; a request that carries one is refused as a leak.

Its control is below `/_sandbox/exports`, with two more routes:

GET  /_sandbox/exports/requests      ?after= &limit=  the log, oldest first
PUT  /_sandbox/exports/subscribers   [[external_id, id, device_type, subscribed], …], or
                                     {"prefix": "user-", "stop": 1000000} for a range

`?app_id=` names the app; else it is the first.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Final, Literal

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from relay.clock import Clock
from relay.sandbox.common.control_api import ControlApi, OneOrMany, list_calls, read_body, refuse
from relay.sandbox.common.faults import ApiFault
from relay.sandbox.common.replies import Answer, Download, JsonObject, Reply, storage_error
from relay.sandbox.common.responder import ApiStandIn, respond
from relay.sandbox.onesignal import export_answers as answers
from relay.sandbox.onesignal.export_files import (
    ExportShape,
    ExtraField,
    Row,
    Subscriber,
    SubscriberRange,
    Subscribers,
    export_download,
)

EXPORT_PATH: Final = "/players/csv_export"
FILE_PATH: Final = "/csv_exports/{app_id}/{name}"
SEGMENTS_PATH: Final = "/apps/{app_id}/segments"
_SCHEMES: Final = frozenset({"key", "basic"})
_GIVES_UP_MS: Final = 600_000
_DAY_S: Final = 86_400
_SUBSCRIBERS: Final[TypeAdapter[tuple[Subscriber, ...] | SubscriberRange]] = TypeAdapter(
    tuple[Subscriber, ...] | SubscriberRange
)


class ExportConditions(BaseModel):
    """All standing conditions.

    Attributes:
        polls: Requests for the file that are answered as not ready.
        seconds: Least time until it is ready.
        never_ready: Whether no file ever is.
        not_ready_status: Answer until then; both were documented.
        file_s: How long the file is kept.
        without_url: Number of answers that start no export and contain no URL.
        missing_key_status: Answer to a request without `Authorization`.
        shape: Layout of the file.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    polls: NonNegativeInt = 1
    seconds: float = Field(default=0.0, ge=0)
    never_ready: bool = False
    not_ready_status: Literal[404, 403] = 404
    file_s: float = Field(default=3.0 * _DAY_S, gt=0)
    without_url: NonNegativeInt = 0
    missing_key_status: Literal[401, 403, 400] = 401
    shape: ExportShape = ExportShape()


class _Order(BaseModel):
    """The body of a request for an export."""

    extra_fields: tuple[ExtraField, ...] = ()
    last_active_since: str | None = Field(default=None, pattern=r"^\d+$")
    segment_name: str | None = None
    include_unsubscribed: bool = False

    @property
    def only_subscribed(self) -> bool:
        """Whether rows that are not subscribed are omitted."""
        return self.segment_name is not None and not self.include_unsubscribed


@dataclass(slots=True)
class _Export:
    """One requested file: a snapshot."""

    app_id: str
    file: Download
    requested_at: int
    polls: int = 0


class CsvExportStandIn(ApiStandIn[ExportConditions]):
    """OneSignal's export as relay sees it.

    Attributes:
        keys: App id to its key; may be changed at any time.
    """

    def __init__(self, keys: Mapping[str, str], *, clock: Clock | None = None) -> None:
        super().__init__(ExportConditions, clock)
        self.keys = dict(keys)
        self._subscribers: dict[str, Subscribers] = {}
        self._exports: dict[str, _Export] = {}

    def put(
        self,
        subscribers: Iterable[Row] | Callable[[], Iterable[Row]],
        *,
        app_id: str | None = None,
    ) -> None:
        """Replace the subscriptions of an app, of the first one if none is named.

        A factory yields them afresh at each call, for as many as memory would not hold.
        """
        name = next(iter(self.keys)) if app_id is None else app_id
        self._subscribers[name] = subscribers if callable(subscribers) else tuple(subscribers)

    def subscribers(self, app_id: str) -> Subscribers:
        """Return the subscriptions of an app."""
        return self._subscribers.get(app_id, ())

    def count(self, app_id: str) -> int:
        """Return the number of subscriptions of an app."""
        known = self.subscribers(app_id)
        return sum(1 for _ in known()) if callable(known) else len(known)

    def summary(self) -> JsonObject:
        """Return the number of subscriptions of each app."""
        return {"apps": {app_id: self.count(app_id) for app_id in self.keys}}

    def reset(self) -> None:
        """Forget faults, conditions, the log and exports; keys and subscriptions stay."""
        super().reset()
        self._exports.clear()

    def mount(self, app: web.Application) -> None:
        """Add the routes to an application that may hold other stand-ins."""
        super().mount(app)
        app.router.add_post(EXPORT_PATH, self._post)
        app.router.add_get(FILE_PATH, self._get, allow_head=False)
        app.router.add_get(SEGMENTS_PATH, self._list_segments, allow_head=False)

    def control(self) -> ControlApi[ApiFault, ExportConditions]:
        """Return the control API."""
        return ControlApi(
            "/_sandbox/exports",
            self,
            TypeAdapter(OneOrMany[ApiFault]),
            lambda: {**self.summary(), "requests": len(self.requests)},
            {
                "GET /requests": list_calls(self.requests),
                "PUT /subscribers": self._put_subscribers,
            },
        )

    async def _put_subscribers(self, request: web.Request) -> None:
        app_id = request.query.get("app_id", next(iter(self.keys), ""))
        if app_id not in self.keys:
            raise refuse(web.HTTPNotFound, "no app has this app_id")
        self.put(await read_body(request, _SUBSCRIBERS.validate_json), app_id=app_id)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        app_id, body = request.query.get("app_id", ""), await request.read()
        call = self.log(request, "export", app_id)
        return await self.complete(
            request, call, lambda: self._start(request, app_id, body), answers.errors
        )

    def _start(self, request: web.Request, app_id: str, body: bytes) -> Answer:
        refusal = self._refusal(request.headers.get(hdrs.AUTHORIZATION), app_id)
        if refusal is not None:
            return refusal
        try:
            order = _Order.model_validate_json(body or b"{}")
        except ValidationError:
            return answers.errors(400, "Request is malformed")
        now_ms = self._clock.now_ms()
        # Seen in the field: an answer of 200 that starts nothing.
        if self.conditions.without_url:
            self.conditions.without_url -= 1
            return answers.file_url(None)
        if any(self._is_running(export, now_ms) for export in self._exports.values()):
            return answers.errors(400, answers.BUSY)
        file = export_download(
            self.subscribers(app_id),
            order.extra_fields,
            self.conditions.shape,
            only_subscribed=order.only_subscribed,
        )
        # The name is the credential of the file, so it cannot be guessed.
        name = f"users_{token_hex(16)}_{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%d}.csv.gz"
        self._exports[name] = _Export(app_id, file, now_ms)
        path = FILE_PATH.format(app_id=app_id, name=name)
        return answers.file_url(str(request.url.origin().with_path(path)))

    async def _list_segments(self, request: web.Request) -> web.Response:
        """Answer the list by which a key can be checked without changing anything."""
        app_id = request.match_info["app_id"]
        refusal = self._refusal(request.headers.get(hdrs.AUTHORIZATION), app_id)
        return respond(refusal or answers.no_segments())

    def _refusal(self, header: str | None, app_id: str) -> Answer | None:
        """Return why a request may not export this app; None if it may."""
        if not app_id:
            return answers.errors(400, answers.NO_APP)
        if header is None:
            return answers.missing_key(self.conditions.missing_key_status)
        scheme, _, key = header.partition(" ")
        known = self.keys.get(app_id)
        is_admitted = scheme.lower() in _SCHEMES and known is not None and key.strip() == known
        return None if is_admitted else answers.errors(403)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        app_id, name = request.match_info["app_id"], request.match_info["name"]
        call = self.log(request, "csv", app_id)

        def decide() -> Reply:
            if call.has_credentials:
                return storage_error(400, "InvalidArgument", "No credentials are wanted here")
            return self._file(app_id, name)

        return await self.complete(request, call, decide, storage_error)

    def _file(self, app_id: str, name: str) -> Reply:
        now_ms, export = self._clock.now_ms(), self._exports.get(name)
        if export is None or export.app_id != app_id:
            return storage_error(404)
        if now_ms - export.requested_at >= self.conditions.file_s * 1000:
            return storage_error(404)
        if not self._is_ready(export, now_ms):
            # Only early requests count: the file is ready after `polls` of them.
            export.polls += 1
            return storage_error(self.conditions.not_ready_status, "NoSuchKey")
        return export.file

    def _is_ready(self, export: _Export, now_ms: int) -> bool:
        conditions, age_ms = self.conditions, now_ms - export.requested_at
        if conditions.never_ready or export.polls < conditions.polls:
            return False
        return age_ms >= conditions.seconds * 1000

    def _is_running(self, export: _Export, now_ms: int) -> bool:
        """Tell whether an export blocks another; it ends even if its file is never requested."""
        age_ms = now_ms - export.requested_at
        return age_ms < _GIVES_UP_MS and not self._is_ready(export, now_ms)
