"""Operations as clients meet them: paths, queries, responses, and their description."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import get_args
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from pydantic import BaseModel
from yarl import URL

from relay.errors import Conflict
from relay.http.admin.openapi import describe
from relay.http.admin.operations import (
    AnyOperation,
    Call,
    NoInput,
    NoOutput,
    Operation,
    operation_routes,
    read_path,
)
from relay.http.admin.schemas import MAX_ID, Affected, Choice, Question
from relay.http.admin.segment_schemas import Group
from relay.http.responses import error_response
from relay.http.server.body import MAX_BODY_BYTES, BodyReader
from relay.segments.read_model import GROUPS


class Echo(BaseModel):
    """What a path contained."""

    values: dict[str, str]


class Order(Question):
    """Options for a file."""

    replace: bool = False


async def echo(_: None, call: Call[NoInput]) -> Echo:
    """Return what the path contains."""
    return Echo(values=dict(call.path))


async def nothing(_: None, __: Call[NoInput]) -> NoOutput:
    """Return without content."""
    return NoOutput()


async def measure(_: None, call: Call[Order]) -> Affected:
    """Return the length of a file, negative if it replaces."""
    length = sum([len(chunk) async for chunk in call.file])
    return Affected(affected=-length if call.input.replace else length)


async def count(_: None, call: Call[Choice]) -> Affected:
    """Return how many are selected, negative for a dry run."""
    number = len(call.input.ids or [])
    return Affected(affected=-number if call.input.dry_run else number)


async def refuse(_: None, __: Call[NoInput]) -> Affected:
    """Raise a conflict."""
    raise Conflict("run 7 is applied, not held")


OPERATIONS: Sequence[AnyOperation[None]] = [
    Operation("GET", "/things/{app}/{name}", "Echo.", NoInput, Echo, echo),
    Operation("GET", "/things/{app}/{name}/parts", "Echo.", NoInput, Echo, echo),
    Operation("DELETE", "/things/{app}/{name}", "Delete.", NoInput, NoOutput, nothing),
    Operation("POST", "/things/{app}", "Measure.", Order, Affected, measure, takes_file=True),
    Operation("POST", "/refuse", "Refuse.", NoInput, Affected, refuse, conflict="Not now"),
    Operation("POST", "/choose", "Choose.", Choice, Affected, count),
    Operation("GET", "/lines", "Lines.", NoInput, NoOutput, nothing, lines=Affected),
]


@asynccontextmanager
async def serving() -> AsyncIterator[URL]:
    """Serve the operations."""

    @web.middleware
    async def answering(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return error_response(error)

    app = web.Application(middlewares=[answering])
    app.add_routes(operation_routes(OPERATIONS, None, BodyReader(invites=False)))
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield URL(f"http://{host}:{port}/api/v1/")
    finally:
        await runner.cleanup()


async def ask(base: URL, method: str, path: str, data: bytes = b"") -> tuple[int, bytes]:
    """Send a request with the path unchanged and return the response."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, URL(f"{base}{path}", encoded=True), data=BytesIO(data)) as answer,
    ):
        return answer.status, await answer.read()


IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@settings(deadline=None)
@given(st.lists(IDS, min_size=1, max_size=20))
async def test_any_id_round_trips_through_the_path(ids: list[str]) -> None:
    """External ids are arbitrary: slashes, dots, percent signs, braces, line ends."""
    async with serving() as base:
        for id_ in [*ids, ".", "..", "a/b", "a%2Fb", "%25", "{x}", "a b+c", "\n", "?#", "ü/parts"]:
            for tail in ("", "/parts"):
                escaped = quote(id_, safe="").replace(".", "%2E")
                status, body = await ask(base, "GET", f"things/shop/{escaped}{tail}")
                assert (status, orjson.loads(body)["values"]) == (200, {"app": "shop", "name": id_})


@given(IDS, IDS)
def test_the_path_of_a_request_is_read_as_it_was_written(app: str, name: str) -> None:
    """Clients that fill in an operation's path need no rules of their own."""
    operation = OPERATIONS[1]
    values = {"app": app, "name": name}
    assert read_path(operation.path, operation.url_path(values)) == values


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("things/shop/a%2fb", "a/b"),
        ("things/shop/a+b", "a+b"),
        ("things/shop/user@mail.example", "user@mail.example"),
        ("%74hings/shop/a", "a"),
        ("things/shop/a?x=1", "a"),
    ],
)
async def test_a_path_may_be_written_in_several_ways(path: str, name: str) -> None:
    """Clients escape more or less than they must."""
    async with serving() as base:
        status, body = await ask(base, "GET", path)
        assert (status, orjson.loads(body)["values"]["name"]) == (200, name)


@pytest.mark.parametrize("name", ["%FF", "%C3", "%ED%A0%80"])
async def test_a_path_that_is_no_text_is_a_mistake(name: str) -> None:
    """No user is shown or erased under a nearly matching id."""
    async with serving() as base:
        assert (await ask(base, "DELETE", f"things/shop/{name}"))[0] == 400


@pytest.mark.parametrize("path", ["things/shop/anna%00x", "things/%00/anna", "things/shop/%00"])
async def test_a_path_with_an_id_that_sqlite_would_cut_is_a_mistake(path: str) -> None:
    """Cut at U+0000 it would name another user, to be shown or erased."""
    async with serving() as base:
        status, body = await ask(base, "DELETE", path)
        assert (status, "U+0000" in orjson.loads(body)["error"]) == (400, True)


async def test_an_operation_without_an_answer_says_204() -> None:
    """There is no body to wait for."""
    async with serving() as base:
        assert await ask(base, "DELETE", "things/shop/a") == (204, b"")


async def test_a_file_may_be_longer_than_a_body() -> None:
    """An export has millions of rows; its options are in the query."""
    async with serving() as base:
        file = b"x" * (MAX_BODY_BYTES + 1)
        status, body = await ask(base, "POST", "things/shop?replace=true", file)
        assert (status, orjson.loads(body)) == (200, {"affected": -len(file)})
        status, body = await ask(base, "POST", "things/shop?colour=red", file[:9])
        assert (status, "colour" in orjson.loads(body)["error"]) == (400, True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"ids":[1,2.0],"dry_run":true}', (200, b'{"affected":-2}')),
        (b'{"ids":[9223372036854775807]}', (200, b'{"affected":1}')),
        *((b'{"ids":[1],"dry_run":%b}' % word, None) for word in (b"1", b'"true"', b'"no"')),
        *((b'{"ids":[%b]}' % word, None) for word in (b'"1"', b"true", b"1.5", b"1e999", b"-1")),
        *((b'{"ids":[%b]}' % word, None) for word in (b"9223372036854775808", b"1e300")),
    ],
)
async def test_a_body_is_parsed_strictly(body: bytes, expected: tuple[int, bytes] | None) -> None:
    """Destructive operations coerce nothing: no text or number is a boolean."""
    async with serving() as base:
        answered = await ask(base, "POST", "choose", body)
        assert answered == expected or (expected is None and answered[0] == 400)


def test_the_document_allows_exactly_the_possible_ids() -> None:
    """The largest number is not rounded up, and a selection is never empty."""
    choice = orjson.loads(describe(OPERATIONS))["components"]["schemas"]["Choice"]
    (ids, _) = choice["properties"]["ids"]["anyOf"]
    assert ids["items"] == {"type": "integer", "minimum": 0, "maximum": MAX_ID}
    assert [way["required"] for way in choice["anyOf"]] == [["ids"], ["app"]]


async def test_a_conflict_is_answered_with_its_reason() -> None:
    """An operation that is impossible now gets 409 with the reason."""
    async with serving() as base:
        status, body = await ask(base, "POST", "refuse")
        assert (status, orjson.loads(body)) == (409, {"error": "run 7 is applied, not held"})


def test_every_kind_of_operation_is_described() -> None:
    """Files, lines, conflicts and empty responses are in the document."""
    document = orjson.loads(describe(OPERATIONS))
    validate(document)
    paths = document["paths"]
    thing = paths["/api/v1/things/{app}/{name}"]
    assert "content" not in thing["delete"]["responses"]["204"]
    measure_ = paths["/api/v1/things/{app}"]["post"]
    assert list(measure_["requestBody"]["content"]) == ["text/csv"]
    assert [named["name"] for named in measure_["parameters"]] == ["app", "replace"]
    assert paths["/api/v1/refuse"]["post"]["responses"]["409"]["description"] == "Not now"
    lines = paths["/api/v1/lines"]["get"]["responses"]["200"]
    assert list(lines["content"]) == ["application/x-ndjson"]


def test_every_group_of_ids_can_be_requested() -> None:
    """The API offers exactly the groups the segment table distinguishes."""
    assert get_args(Group) == GROUPS
