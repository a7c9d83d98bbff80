"""Runs: list them, decide about those that are held."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import BaseModel

from relay.http.admin.context import AdminContext
from relay.http.admin.operations import AnyOperation, Call, NoInput, Operation
from relay.http.admin.schemas import MAX_ID, Affected
from relay.http.admin.segment_schemas import RunListing, RunPage
from relay.http.admin.segment_views import run_page

NOT_HELD = "The run is not held"


class RunOperations:
    """The operations on cohort runs."""

    def __init__(self, parts: AdminContext) -> None:
        self._parts = parts

    def operations(self) -> list[AnyOperation]:
        """Return them."""
        return [
            Operation(
                "GET",
                "/cohort-runs",
                "List runs, newest first.",
                RunListing,
                RunPage,
                self.list_all,
            ),
            Operation(
                "POST",
                "/cohort-runs/{run_id}/approve",
                "Apply a held run as it is.",
                NoInput,
                Affected,
                self.approve,
                conflict=NOT_HELD,
            ),
            Operation(
                "POST",
                "/cohort-runs/{run_id}/reject",
                "Drop a held run for good.",
                NoInput,
                Affected,
                self.reject,
                conflict=NOT_HELD,
            ),
        ]

    async def list_all(self, call: Call[RunListing]) -> RunPage:
        """Return a page of runs."""
        asked = call.asked
        if asked.app is not None:
            self._parts.check(asked.app)
        found = await self._parts.segments.reading.runs(
            asked.app,
            asked.cohort_id,
            asked.state,
            before=MAX_ID if asked.after is None else asked.after,
            limit=asked.limit + 1,
        )
        return run_page(found, asked.limit)

    async def approve(self, call: Call[BaseModel]) -> Affected:
        """Apply a held run."""
        return await self._decide(call, self._parts.segments.decisions.approve)

    async def reject(self, call: Call[BaseModel]) -> Affected:
        """Drop a held run."""
        return await self._decide(call, self._parts.segments.decisions.reject)

    async def _decide(
        self, call: Call[BaseModel], decide: Callable[[int, int], Awaitable[None]]
    ) -> Affected:
        await decide(_run_id(call), self._parts.clock.now_ms())
        return Affected(affected=1)


def _run_id(call: Call[BaseModel]) -> int:
    """Return the run a path names.

    Raises:
        web.HTTPNotFound: If it can be none.
    """
    text = call.path["run_id"]
    if text.isascii() and text.isdecimal() and len(text) < len(str(MAX_ID)):
        return int(text)
    raise web.HTTPNotFound(text="a run is named by its number")
