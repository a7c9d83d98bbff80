"""Operations: each declared once, as a route, as its checks and as its documentation.

The daemon serves them over HTTP; a command may also carry one out in its own process.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote, unquote

from aiohttp import web
from pydantic import BaseModel, ValidationError

from relay.errors import Conflict, FileRejected, NotFound
from relay.http.admin.ndjson import NdjsonStream, send_lines, wants_lines
from relay.http.admin.schemas import NUL
from relay.http.server.body import BodyReader

PREFIX = "/api/v1"

VARIABLE = re.compile(r"\{(\w+)\}")

Input = TypeVar("Input", bound=BaseModel)
Output_co = TypeVar("Output_co", bound=BaseModel, covariant=True)
Context_contra = TypeVar("Context_contra", contravariant=True)


class NoInput(BaseModel):
    """The input of an operation that needs no more than its path."""


class NoOutput(BaseModel):
    """The output of an operation that has nothing to say but that it is done."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Input]):
    """One request, checked.

    Attributes:
        path: Values of the path's variables.
        input: The query or the body.
        wants_lines: Whether NDJSON is asked for where a page is the rule.
        file: The body of an operation that takes a file, in chunks.
    """

    path: Mapping[str, str]
    input: Input
    wants_lines: bool
    file: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Context_contra, Input, Output_co]):
    """One thing the API can do.

    Attributes:
        method: HTTP method.
        path: Below the prefix, with `{variables}`.
        summary: One sentence.
        input: Shape of the query (GET, or with a file) or the body.
        output: Shape of the answer.
        handle: Does it, on what the context offers. Raises a `RelayError` if it cannot.
        lines: Shape of a line of the answer, where it can be sent as NDJSON.
        takes_file: Whether the body is a file of any length.
        conflict: When it is refused for the time being, in a sentence.
    """

    method: str
    path: str
    summary: str
    input: type[Input]
    output: type[Output_co]
    handle: Callable[[Context_contra, Call[Input]], Awaitable[Output_co | NdjsonStream]]
    lines: type[BaseModel] | None = None
    takes_file: bool = False
    conflict: str | None = None

    @property
    def has_query(self) -> bool:
        """Whether `input` comes in the query."""
        return self.method == "GET" or self.takes_file

    def url_path(self, values: Mapping[str, str]) -> str:
        """Return the path of a request, percent-encoded so that any value comes back whole."""
        return PREFIX + VARIABLE.sub(lambda found: _escape(values[found[1]]), self.path)


AnyOperation: TypeAlias = Operation[Context_contra, Any, Any]  # each has its own input and output


def operation_routes(
    operations: Sequence[AnyOperation[Context_contra]], context: Context_contra, bodies: BodyReader
) -> list[web.RouteDef]:
    """Return the routes that carry out `operations` on a context."""
    return [
        web.route(
            operation.method,
            PREFIX + VARIABLE.sub(r"{\1:[^/]+}", operation.path),
            _serve(operation, context, bodies),
        )
        for operation in operations
    ]


def _serve(
    operation: AnyOperation[Context_contra], context: Context_contra, bodies: BodyReader
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        path = read_path(operation.path, request.rel_url.raw_path)
        given = await _read_input(operation, request, bodies)
        async with aclosing(bodies.chunks(request)) as file:
            call: Call[BaseModel] = Call(path, given, wants_lines(request), file)
            with map_errors():
                output = await operation.handle(context, call)
        if isinstance(output, NdjsonStream):
            return await send_lines(request, output, operation.lines or BaseModel)
        if isinstance(output, NoOutput):
            return web.Response(status=204)
        return web.Response(body=output.model_dump_json().encode(), content_type="application/json")

    return serve


def _escape(value: str) -> str:
    # Dots too: clients and proxies resolve a path segment of `..` before they send it.
    return quote(value, safe="").replace(".", "%2E")


def read_path(path: str, raw_path: str) -> dict[str, str]:
    """Return the values of an operation's variables in the undecoded path of a request.

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


async def _read_input(
    operation: Operation[Any, Input, BaseModel], request: web.Request, bodies: BodyReader
) -> Input:
    """Read and check the input of a request.

    Raises:
        web.HTTPBadRequest: If it is not of the operation's shape, saying what is.
    """
    shape = operation.input
    try:
        if shape is NoInput:
            return shape()
        if operation.has_query:
            # An empty value sets no condition: forms send their empty fields too.
            given = {name: text for name, text in request.query.items() if text}
            return shape.model_validate(given)
        # Strict: what destroys must not guess that "no" is false, or "7" an id.
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


@contextmanager
def map_errors() -> Iterator[None]:
    """Answer errors a caller can act on with their text and a fitting status.

    Raises:
        web.HTTPException: In their place.
    """
    try:
        yield
    except NotFound as error:
        raise web.HTTPNotFound(text=str(error)) from error
    except Conflict as error:
        raise web.HTTPConflict(text=str(error)) from error
    except FileRejected as error:
        raise web.HTTPBadRequest(text=f"{error.reason}: {error.detail}") from error
