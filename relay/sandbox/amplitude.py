"""A strict stand-in of Amplitude's ingest: `POST /2/httpapi` and `POST /batch`.

A request is read, parsed, met by at most one fault, judged, stored, logged and answered,
in this order. Faults shape the answer; conditions shape the verdict; the ledger tells
what Amplitude would hold. A request that never was stored is never in the ledger.
"""

from collections.abc import Collection
from typing import Final

import anyio
from aiohttp import web

from relay.clock import Clock, SystemClock
from relay.sandbox import answers
from relay.sandbox.answers import Answer
from relay.sandbox.conditions import Conditions
from relay.sandbox.door import DOORKEEPER, running
from relay.sandbox.faults import Fault, FaultBoard
from relay.sandbox.judgement import Judge, Taken
from relay.sandbox.ledger import Ledger, RequestLine
from relay.sandbox.transport import linger, reset, respond, send_cut
from relay.sandbox.uploads import (
    BATCH_PATH,
    HTTPAPI_PATH,
    MAX_EVENTS,
    Gate,
    Upload,
    Wire,
    parse_upload,
    read_wire,
)

__all__ = ["AmplitudeStandIn", "running"]

MAX_READ_BYTES: Final = 64 * 1024 * 1024


class AmplitudeStandIn:
    """Amplitude as relay sees it.

    Attributes:
        api_keys: The keys of the projects it knows; may be changed at any time.
        ledger: What it holds.
        faults: How it misbehaves at present.
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
        self.ledger = Ledger(keep_events=keep_events)
        self.faults = FaultBoard(self._clock)
        self._judge = Judge()
        self._closing = anyio.Event()

    @property
    def conditions(self) -> Conditions:
        """What stands until changed; change its fields or replace it."""
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
        """Return an application with this stand-in alone, without control over HTTP."""
        app = web.Application(client_max_size=MAX_READ_BYTES)
        self.mount(app)
        self.mount_rest(app)
        return app

    def mount(self, app: web.Application) -> None:
        """Add the upload routes to an application that may hold other stand-ins."""
        self._closing = anyio.Event()
        app[DOORKEEPER] = self.faults
        app.on_shutdown.append(self._close)
        for path in (HTTPAPI_PATH, BATCH_PATH):
            app.router.add_route("*", path, self._handle)

    def mount_rest(self, app: web.Application) -> None:
        """Refuse every path that was not added before, as the service does; add it last."""
        app.router.add_route("*", "/{tail:.*}", self._handle)

    async def _close(self, _app: web.Application) -> None:
        self._closing.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        wire = await read_wire(request)
        parsed = parse_upload(wire, self._gate())
        api_key = parsed.api_key if isinstance(parsed, Upload) else ""
        if isinstance(parsed, Upload):
            self.ledger.observe(parsed, wire)
        fault = self.faults.take(api_key)
        if fault is None:
            answer, is_stored = self._decide(parsed, wire)
            self._log(parsed, wire, answer.status, None, is_stored=is_stored)
            return respond(answer)
        return await self._misbehave(request, fault, parsed, wire)

    def _gate(self) -> Gate:
        stands = self.conditions
        return Gate(self._is_key_known, stands.max_body_bytes, stands.max_events or MAX_EVENTS)

    def _is_key_known(self, api_key: str) -> bool:
        if api_key in self.conditions.bad_keys:
            return False
        return self.accepts_any_key or api_key in self.api_keys

    def _decide(self, parsed: Upload | Answer, wire: Wire) -> tuple[Answer, bool]:
        """Return the honest answer, and whether events were stored for it."""
        if isinstance(parsed, Answer):
            return parsed, False
        now_ms = self._clock.now_ms()
        verdict = self._judge.judge(parsed, now_ms)
        if isinstance(verdict, Taken):
            self.ledger.store(parsed, verdict.events, wire, now_ms)
            return answers.success(len(verdict.events), wire.plain_bytes, now_ms), True
        return verdict, False

    async def _misbehave(
        self, request: web.Request, fault: Fault, parsed: Upload | Answer, wire: Wire
    ) -> web.StreamResponse:
        honest: Answer | None = None
        is_stored = False
        if fault.stored:
            honest, is_stored = self._decide(parsed, wire)
        if fault.name == "slow":
            await self._linger(fault.delay_s)
            if honest is None:
                honest, is_stored = self._decide(parsed, wire)
            self._log(parsed, wire, honest.status, fault, is_stored=is_stored)
            return respond(honest)
        answer = fault.answer()
        is_cut = fault.name == "200_cut"
        status = 200 if is_cut else 0 if answer is None else answer.status
        self._log(parsed, wire, status, fault, is_stored=is_stored)
        if answer is not None:
            return respond(answer)
        if is_cut:
            return await send_cut(request, honest or answers.success(1, wire.plain_bytes, 0))
        if fault.name == "hang":
            await self._linger(None)
        return reset(request)

    async def _linger(self, seconds: float | None) -> None:
        """Wait for `seconds`, or until faults change or the stand-in closes."""
        await linger(seconds, self._closing, self.faults.cleared)

    def _log(
        self,
        parsed: Upload | Answer,
        wire: Wire,
        status: int,
        fault: Fault | None,
        *,
        is_stored: bool,
    ) -> None:
        upload = parsed if isinstance(parsed, Upload) else None
        self.ledger.log(
            RequestLine(
                at=self._clock.now_ms(),
                path=wire.path,
                api_key="" if upload is None else upload.api_key,
                events=0 if upload is None else len(upload.events),
                wire_bytes=wire.wire_bytes,
                plain_bytes=wire.plain_bytes,
                is_gzip=wire.is_gzip,
                status=status,
                fault=None if fault is None else fault.label,
                is_stored=is_stored,
            )
        )
