"""Cohorts and exports of a whole sandbox, controlled over HTTP."""

import csv
import gzip
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import orjson
import pytest
from aiohttp import ClientSession, encode_basic_auth, web
from yarl import URL

from relay.sandbox.common.listener import running
from relay.sandbox.common.target import Target
from relay.sandbox.options import (
    DEFAULT_API_KEY,
    DEFAULT_APP_ID,
    DEFAULT_ONESIGNAL_KEY,
    DEFAULT_SECRET_KEY,
    SandboxOptions,
)
from relay.sandbox.server import Sandbox

KEYS = {"Authorization": encode_basic_auth(DEFAULT_API_KEY, DEFAULT_SECRET_KEY)}
COHORTS = "/_sandbox/cohorts"
EXPORTS = "/_sandbox/exports"


@dataclass
class Remote:
    """A sandbox seen from outside."""

    sandbox: Sandbox
    session: ClientSession
    url: URL

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and JSON of a control request."""
        async with self.session.request(method, self.url.join(URL(path)), json=body) as response:
            return response.status, orjson.loads(await response.read())

    async def cohort(self, path: str) -> tuple[int, bytes]:
        """Call the cohorts API with keys."""
        url = self.url.join(URL(path))
        async with self.session.get(url, headers=KEYS, allow_redirects=False) as response:
            return response.status, await response.read()

    async def members(self, cohort_id: str) -> list[list[str]]:
        """Export a cohort and return the rows of its file."""
        _, body = await self.cohort(f"/api/5/cohorts/request/{cohort_id}")
        request_id = orjson.loads(body)["request_id"]
        while (await self.cohort(f"/api/5/cohorts/request-status/{request_id}"))[0] != 200:
            pass
        _, body = await self.cohort(f"/api/5/cohorts/request/{request_id}/file")
        return list(csv.reader(io.StringIO(body.decode(), newline="")))[1:]


@asynccontextmanager
async def remote(**options: Any) -> AsyncIterator[Remote]:  # noqa: ANN401 - options of all types
    """Run a sandbox for the duration of a test."""
    sandbox = Sandbox(SandboxOptions(**options))
    with anyio.fail_after(10):
        async with running(sandbox.app) as url, ClientSession() as session:
            yield Remote(sandbox, session, url)


async def test_a_cohort_is_put_changed_and_removed() -> None:
    """A PUT cohort is listed and exported; a removed one is gone."""
    async with remote() as r:
        cohort = {"id": "c1", "name": "Mine", "user_ids": ["a", "b"], "empty_ids": 1}
        status, state = await r.call("PUT", COHORTS, cohort)
        assert (status, state["projects"][DEFAULT_API_KEY][0]["size"]) == (200, 3)
        _, changed = await r.call("POST", f"{COHORTS}/c1/members", {"add": ["c"], "remove": ["a"]})
        assert changed["size"] == 3
        assert [row[1] for row in await r.members("c1")] == ["b", "", "c"]
        _, shown = await r.call("GET", f"{COHORTS}/c1")
        assert shown["user_ids"] == ["b", "c"]
        await r.call("DELETE", f"{COHORTS}/c1")
        assert (await r.cohort("/api/3/cohorts"))[1] == b'{"cohorts":[]}'


async def test_a_million_members_are_a_range() -> None:
    """The client need not send a list."""
    async with remote() as r:
        members = {"prefix": "user-", "start": 0, "stop": 1_000_000}
        _, state = await r.call("PUT", COHORTS, [{"id": "c1", "user_ids": members}])
        assert state["projects"][DEFAULT_API_KEY][0]["size"] == 1_000_000
        _, shown = await r.call("GET", f"{COHORTS}/c1")
        assert (len(shown["user_ids"]), shown["user_ids"][-1]) == (1_000, "user-999")


async def test_conditions_are_changed_in_part() -> None:
    """POST changes only what it names, at any depth; PUT resets the rest."""
    async with remote() as r:
        path = f"{COHORTS}/conditions"
        await r.call("POST", path, {"limits": {"per_month": 9}})
        _, state = await r.call(
            "POST", path, {"limits": {"parallel": 2}, "shape": {"cut": "gzip"}, "usage": "flat"}
        )
        limits = state["conditions"]["limits"]
        assert (limits["per_month"], limits["parallel"], limits["per_window"]) == (9, 2, 60)
        assert state["conditions"]["shape"]["cut"] == "gzip"
        _, state = await r.call("PUT", path, {"usage": "nested"})
        assert state["conditions"]["limits"]["per_month"] == 500
        _, state = await r.call("DELETE", path)
        assert state["conditions"]["usage"] is None


async def test_faults_and_the_log() -> None:
    """Added, replaced, cleared; each request is a line."""
    async with remote() as r:
        path = f"{COHORTS}/faults"
        await r.call("POST", path, {"name": 503, "operation": "list", "count": 1})
        assert (await r.cohort("/api/3/cohorts"))[0] == 503
        await r.call("PUT", path, [{"name": "429"}, {"name": "hang"}])
        assert (await r.cohort("/api/3/cohorts"))[0] == 429
        _, state = await r.call("DELETE", path)
        assert (state["faults"], state["requests"]) == ([], 2)
        _, page = await r.call("GET", f"{COHORTS}/requests?limit=1")
        assert (page["next"], page["items"][0]["mishap"]) == (1, "503")
        _, page = await r.call("GET", f"{COHORTS}/requests?after=1")
        assert [item["status"] for item in page["items"]] == [429]
        _, state = await r.call("POST", f"{COHORTS}/reset")
        assert state["requests"] == 0


async def test_the_budget_can_be_used_up() -> None:
    """As if other clients had requested exports."""
    async with remote() as r:
        await r.call("PUT", COHORTS, {"id": "c1"})
        _, state = await r.call("POST", f"{COHORTS}/spend", {"exports": 500})
        assert state["downloads_this_month"] == 500
        assert (await r.cohort("/api/5/cohorts/request/c1"))[0] == 429


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("PUT", COHORTS, {"name": "x"}, 400, "id"),
        ("PUT", COHORTS, {"id": "x", "nonsense": 1}, 400, "nonsense"),
        ("PUT", f"{COHORTS}?api_key=none", {"id": "x"}, 404, "project"),
        ("GET", f"{COHORTS}/none", None, 404, "cohort"),
        ("POST", f"{COHORTS}/none/push", {}, 404, "cohort"),
        ("POST", f"{COHORTS}/faults", {"name": "418"}, 400, "name"),
        ("POST", f"{COHORTS}/conditions", {"delivery": "pigeon"}, 400, "delivery"),
        ("PUT", f"{EXPORTS}/subscribers?app_id=none", [], 404, "app"),
        ("PUT", f"{EXPORTS}/subscribers", [1], 400, "0"),
    ],
)
async def test_nonsense_is_rejected_with_the_reason(
    method: str, path: str, body: object, status: int, word: str
) -> None:
    """A mistake is explained, and changes nothing."""
    async with remote() as r:
        got, answer = await r.call(method, path, body)
        assert (got, word in answer["error"]) == (status, True)


async def test_a_cohort_is_pushed_on_request() -> None:
    """First in full to the cohorts webhook, then as differences."""
    bodies: list[Any] = []
    heads: list[str] = []

    async def receive(request: web.Request) -> web.Response:
        bodies.append(orjson.loads(await request.read()))
        heads.append(request.headers["Authorization"])
        return web.json_response({"added": 1})

    app = web.Application()
    app.router.add_post("/v1/apps/shop/cohorts", receive)
    async with (
        running(app) as hook,
        remote(target=Target(hook.with_path("/v1/apps/shop/events"), "token-1")) as r,
    ):
        await r.call("PUT", COHORTS, {"id": "c1", "user_ids": ["a", "b"]})
        status, account = await r.call("POST", f"{COHORTS}/c1/push", {"users_per_message": 1})
        assert (status, account["entering"], len(account["acknowledged"])) == (200, 2, 2)
        await r.call("POST", f"{COHORTS}/c1/members", {"remove": ["b"]})
        order = {"token": "token-2", "url": str(hook.with_path("/v1/apps/shop/cohorts"))}
        _, account = await r.call("POST", f"{COHORTS}/c1/push", order)
        assert (account["entering"], account["leaving"]) == (0, 1)
        assert [user["user_id"] for user in bodies[-1]["users"]] == ["b"]
        assert heads == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_push_needs_a_target() -> None:
    """Without one it is an error."""
    async with remote() as r:
        await r.call("PUT", COHORTS, {"id": "c1"})
        assert (await r.call("POST", f"{COHORTS}/c1/push"))[0] == 409


async def test_the_users_of_the_sandbox_are_known_to_both_services() -> None:
    """Most members of the cohorts have subscriptions, and some have not."""
    async with remote(people=300) as r:
        url = r.url.join(URL(f"/players/csv_export?app_id={DEFAULT_APP_ID}"))
        key = {"Authorization": f"Basic {DEFAULT_ONESIGNAL_KEY}"}
        order = {"extra_fields": ["external_user_id"]}
        async with r.session.post(url, headers=key, json=order) as response:
            link = (await response.json())["csv_file_url"]
        for status in (404, 200):
            async with r.session.get(link) as response:
                assert response.status == status
                body = await response.read()
        text = io.StringIO(gzip.decompress(body).decode(), newline="")
        known = {row["external_user_id"] for row in csv.DictReader(text)}
        paying = [row[1] for row in await r.members("7khm89cz")]
        at_risk = {row[1] for row in await r.members("fplg9rf")} - {""}
        assert (paying.count(""), len(set(paying) - known)) == (5, 20)
        assert len(at_risk) > 70
        assert at_risk < known
        assert "user-10001" in known


async def test_subscribers_are_put() -> None:
    """As rows, or as a range."""
    async with remote() as r:
        path = f"{EXPORTS}/subscribers"
        _, state = await r.call("PUT", path, [["user-1", "s-1", 1, True], [None, "s-2", 0, False]])
        assert state["apps"] == {DEFAULT_APP_ID: 2}
        _, state = await r.call("PUT", path, {"prefix": "u-", "stop": 1_000, "email_every": 10})
        assert state["apps"] == {DEFAULT_APP_ID: 1_100}
        _, state = await r.call("POST", f"{EXPORTS}/conditions", {"seconds": 3})
        assert (state["conditions"]["seconds"], state["conditions"]["polls"]) == (3, 1)
