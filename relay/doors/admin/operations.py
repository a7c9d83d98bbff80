"""Operations: each declared once, as a route, as its checks and as its documentation."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from relay.doors.bodies import Bodies

PREFIX = "/api/v1"

Asked = TypeVar("Asked", bound=BaseModel)


class Nothing(BaseModel):
    """What an operation asks that needs no more than its path."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked]):
    """One request, checked.

    Attributes:
        path: Values of the path's variables.
        asked: The query or the body.
    """

    path: Mapping[str, str]
    asked: Asked


@dataclass(frozen=True, slots=True)
class Operation(Generic[Asked]):
    """One thing the API can do.

    Attributes:
        method: HTTP method.
        path: Below the prefix, with `{variables}`.
        summary: One sentence.
        asked: Shape of the query (GET) or the body.
        answer: Shape of the answer.
        handle: Does it. Raises `web.HTTPException` for what cannot be done.
    """

    method: str
    path: str
    summary: str
    asked: type[Asked]
    answer: type[BaseModel]
    handle: Callable[[Call[Asked]], Awaitable[BaseModel]]


def operation_routes(
    operations: Sequence[Operation[BaseModel]], bodies: Bodies
) -> list[web.RouteDef]:
    """Return the routes that serve `operations`."""
    return [
        web.route(operation.method, PREFIX + operation.path, _serve(operation, bodies))
        for operation in operations
    ]


def _serve(
    operation: Operation[BaseModel], bodies: Bodies
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(request: web.Request) -> web.Response:
        asked = await _ask(operation, request, bodies)
        call: Call[BaseModel] = Call(dict(request.match_info), asked)
        answer = await operation.handle(call)
        return web.Response(body=answer.model_dump_json().encode(), content_type="application/json")

    return serve


async def _ask(operation: Operation[BaseModel], request: web.Request, bodies: Bodies) -> BaseModel:
    """Read and check what a request asks.

    Raises:
        web.HTTPBadRequest: If it is not of the operation's shape, saying what is.
    """
    if operation.asked is Nothing:
        return Nothing()
    try:
        if operation.method == "GET":
            given = {name: text for name, text in request.query.items() if text}
            return operation.asked.model_validate(given)
        return operation.asked.model_validate_json(await bodies.read(request))
    except ValidationError as error:
        raise web.HTTPBadRequest(text=_explain(error)) from error


def _explain(error: ValidationError) -> str:
    """Return every mistake in a sentence each."""
    sentences = []
    for detail in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        sentences.append(f"{place}: {message}" if place else message)
    return "; ".join(sentences)
