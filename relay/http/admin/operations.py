"""Operations: each declared once, as a route, as its checks and as its documentation."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ValidationError

from relay.http.admin.errors import telling
from relay.http.admin.ndjson import NdjsonStream, send_lines, wants_lines
from relay.http.admin.schemas import NUL
from relay.http.server.body import BodyReader

PREFIX = "/api/v1"

VARIABLE = re.compile(r"\{(\w+)\}")

Asked = TypeVar("Asked", bound=BaseModel)


class NoInput(BaseModel):
    """What an operation asks that needs no more than its path."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked]):
    """One request, checked.

    Attributes:
        path: Values of the path's variables.
        asked: The query or the body.
        wants_lines: Whether lines are asked for where a page is the rule.
        file: The body of an operation that takes a file, as it comes.
    """

    path: Mapping[str, str]
    asked: Asked
    wants_lines: bool
    file: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Asked]):
    """One thing the API can do.

    Attributes:
        method: HTTP method.
        path: Below the prefix, with `{variables}`.
        summary: One sentence.
        asked: Shape of the query (GET, or with a file) or the body.
        answer: Shape of the answer; None answers nothing but that it is done.
        handle: Does it. Raises `web.HTTPException` for what cannot be done.
        lines: Shape of a line of the answer, where it can be sent line by line.
        takes_file: Whether the body is a file of any length.
        conflict: When it is refused for the time being, in a sentence.
    """

    method: str
    path: str
    summary: str
    asked: type[Asked]
    answer: type[BaseModel] | None
    handle: Callable[[Call[Asked]], Awaitable[BaseModel | NdjsonStream | None]]
    lines: type[BaseModel] | None = None
    takes_file: bool = False
    conflict: str | None = None

    @property
    def has_query(self) -> bool:
        """Whether `asked` comes in the query."""
        return self.method == "GET" or self.takes_file


AnyOperation: TypeAlias = Operation[Any]  # each is called with what it asks


def operation_routes(operations: Sequence[AnyOperation], bodies: BodyReader) -> list[web.RouteDef]:
    """Return the routes that serve `operations`."""
    return [
        web.route(
            operation.method,
            PREFIX + VARIABLE.sub(r"{\1:[^/]+}", operation.path),
            _serve(operation, bodies),
        )
        for operation in operations
    ]


def _serve(
    operation: AnyOperation, bodies: BodyReader
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        path = read_path(operation.path, request.rel_url.raw_path)
        asked = await _ask(operation, request, bodies)
        async with aclosing(bodies.chunks(request)) as file:
            call: Call[BaseModel] = Call(path, asked, wants_lines(request), file)
            with telling():
                answer = await operation.handle(call)
        if isinstance(answer, NdjsonStream):
            return await send_lines(request, answer, operation.lines or BaseModel)
        if answer is None:
            return web.Response(status=204)
        return web.Response(body=answer.model_dump_json().encode(), content_type="application/json")

    return serve


def read_path(path: str, raw_path: str) -> dict[str, str]:
    """Return the values of an operation's variables in a path as it came.

    Raises:
        web.HTTPBadRequest: If one of them is not text that can be kept.
    """
    names = (PREFIX + path).split("/")
    texts = raw_path.split("/")
    try:
        values = {
            name[1:-1]: unquote(text, errors="strict")
            for name, text in zip(names, texts, strict=True)
            if VARIABLE.fullmatch(name)
        }
        "".join(values.values()).encode()
    except UnicodeError as error:
        raise web.HTTPBadRequest(text="the path is not UTF-8, percent-encoded") from error
    if any(NUL in value for value in values.values()):
        raise web.HTTPBadRequest(text="the path holds the character U+0000, which no id may have")
    return values


async def _ask(operation: AnyOperation, request: web.Request, bodies: BodyReader) -> BaseModel:
    """Read and check what a request asks.

    Raises:
        web.HTTPBadRequest: If it is not of the operation's shape, saying what is.
    """
    shape: type[BaseModel] = operation.asked
    if shape is NoInput:
        return NoInput()
    try:
        if operation.has_query:
            given = {name: text for name, text in request.query.items() if text}
            return shape.model_validate(given)
        return shape.model_validate_json(await bodies.read(request), strict=True)
    except ValidationError as error:
        raise web.HTTPBadRequest(text=explain(error)) from error


def explain(error: ValidationError) -> str:
    """Return every mistake in a sentence each."""
    sentences = []
    for detail in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        sentences.append(f"{place}: {message}" if place else message)
    return "; ".join(sentences)
