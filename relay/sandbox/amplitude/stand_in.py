"""A strict stand-in of Amplitude's ingest: `POST /2/httpapi` and `POST /batch`.

A request is read, parsed, met by at most one fault, judged, stored, logged and answered,
in this order. Faults shape the answer, conditions shape the verdict, and the ledger shows
what Amplitude would hold. A request that was never stored is never in the ledger.

Its control is below `/_sandbox/amplitude`, with one more route:

GET  /_sandbox/amplitude/events    ?api_key= &after= &limit=
"""

from collections.abc import Collection
from typing import Final

from aiohttp import web
from pydantic import TypeAdapter

from relay.clock import Clock, SystemClock
from relay.sandbox.amplitude import answers
from relay.sandbox.amplitude.conditions import Conditions
from relay.sandbox.amplitude.judge import Judge
from relay.sandbox.amplitude.ledger import Ledger, RequestLine
from relay.sandbox.amplitude.uploads import (
    BATCH_PATH,
    HTTPAPI_PATH,
    Upload,
    parse_upload,
    read_upload,
)
from relay.sandbox.common.active_faults import ActiveFaults
from relay.sandbox.common.control_api import ControlApi, OneOrMany, Page, check, paged
from relay.sandbox.common.faults import UploadFault
from relay.sandbox.common.listener import CLOSED_BY
from relay.sandbox.common.replies import Answer, JsonObject
from relay.sandbox.common.responder import Responder

MAX_READ_BYTES: Final = 64 * 1024 * 1024


class _EventPage(Page):
    api_key: str | None = None


class AmplitudeStandIn(Responder[UploadFault]):
    """Amplitude's ingest as relay sees it.

    Attributes:
        api_keys: The keys of the projects it knows; may be changed at any time.
        ledger: What it holds.
    """

    def __init__(
        self,
        api_keys: Collection[str] = (),
        *,
        accepts_any_key: bool = False,
        keep_events: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.api_keys = set(api_keys)
        self.accepts_any_key = accepts_any_key
        self._clock: Clock = clock or SystemClock()
        super().__init__(ActiveFaults(UploadFault, self._clock))
        self.ledger = Ledger(keep_events=keep_events)
        self._judge = Judge()

    @property
    def conditions(self) -> Conditions:
        """What holds until changed; change its fields or replace it."""
        return self._judge.conditions

    @conditions.setter
    def conditions(self, conditions: Conditions) -> None:
        self._judge.conditions = conditions

    def reset(self) -> None:
        """Forget the ledger, the faults and the conditions; the keys stay."""
        self.ledger.reset()
        self.faults.clear()
        self._judge.reset()

    def app(self) -> web.Application:
        """Return an application with this stand-in alone, without its control API."""
        app = web.Application(client_max_size=MAX_READ_BYTES)
        self.mount(app)
        self.mount_rest(app)
        return app

    def mount(self, app: web.Application) -> None:
        """Add the upload routes to an application that may hold other stand-ins."""
        app[CLOSED_BY] = self.faults
        super().mount(app)
        for path in (HTTPAPI_PATH, BATCH_PATH):
            app.router.add_route("*", path, self._handle)

    def mount_rest(self, app: web.Application) -> None:
        """Refuse every path not added before, as the service does; call it last."""
        app.router.add_route("*", "/{tail:.*}", self._handle)

    def control(self) -> ControlApi[UploadFault, Conditions]:
        """Return the control API."""
        return ControlApi(
            "/_sandbox/amplitude",
            self,
            TypeAdapter(OneOrMany[UploadFault]),
            lambda: {"ledger": self.ledger.summary()},
            {"GET /events": self._show_events},
        )

    async def _show_events(self, request: web.Request) -> JsonObject:
        page = check(_EventPage.model_validate, dict(request.query))
        api_key = page.api_key or min(self.api_keys, default="")
        account = self.ledger.account(api_key)
        shown = paged(account.insert_ids, page)
        return {
            "api_key": api_key,
            "items": paged(account.events, page)["items"],
            "insert_ids": shown["items"],
            "next": shown["next"],
        }

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await read_upload(request)
        stands = self.conditions
        upload = parse_upload(
            raw,
            self._is_key_known,
            max_body_bytes=stands.max_body_bytes,
            max_events=stands.max_events,
        )
        line = RequestLine(raw.path, raw.wire_bytes, raw.plain_bytes, raw.is_gzip)
        if isinstance(upload, Upload):
            line.api_key, line.events = upload.api_key, len(upload.events)
            # Before any fault: an upload that is never answered must keep the rules too.
            self.ledger.observe(upload, raw)
        fault = self.faults.consume(lambda fault: fault.api_key in (None, line.api_key))
        line.fault = None if fault is None else fault.label

        def decide() -> Answer:
            if isinstance(upload, Answer):
                return upload
            now_ms = self._clock.now_ms()
            verdict = self._judge.judge(upload, now_ms)
            if isinstance(verdict, Answer):
                return verdict
            self.ledger.store(upload, verdict.events, raw, now_ms)
            line.is_stored = True
            return answers.success(len(verdict.events), raw.plain_bytes, now_ms)

        def log(status: int) -> None:
            line.at, line.status = self._clock.now_ms(), status
            self.ledger.log(line)

        return await self.answer(request, fault, decide, answers.fault_answer, log)

    def _is_key_known(self, api_key: str) -> bool:
        if api_key in self.conditions.bad_keys:
            return False
        return self.accepts_any_key or api_key in self.api_keys
