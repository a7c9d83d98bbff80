"""What the control routes of all stand-ins share: JSON in, JSON out, clear refusals."""

from collections.abc import Mapping
from typing import TypeVar

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

Model = TypeVar("Model")


def json_response(body: Mapping[str, object], status: int = 200) -> web.Response:
    """Return `body` as an answer a person can read too."""
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=text, content_type="application/json")


def bad_request(message: str) -> web.HTTPBadRequest:
    """Return the refusal of nonsense to raise, with a sentence for a person."""
    return web.HTTPBadRequest(text=_error(message), content_type="application/json")


def conflict(message: str) -> web.HTTPConflict:
    """Return the refusal to raise when the moment is wrong."""
    return web.HTTPConflict(text=_error(message), content_type="application/json")


def not_found(message: str) -> web.HTTPNotFound:
    """Return the refusal to raise when there is no such route."""
    return web.HTTPNotFound(text=_error(message), content_type="application/json")


def _error(message: str) -> str:
    return orjson.dumps({"error": message}).decode()


def read_model(adapter: TypeAdapter[Model], data: bytes | Mapping[str, str]) -> Model:
    """Return what a body or a query says.

    Raises:
        web.HTTPBadRequest: If it says nonsense; the answer tells which.
    """
    try:
        if isinstance(data, bytes):
            return adapter.validate_json(data or b"{}")
        return adapter.validate_python(data)
    except ValidationError as error:
        raise bad_request(describe(error)) from error


def describe(error: ValidationError) -> str:
    """Return the mistakes in one line, each with the place it was made in."""
    mistakes = error.errors(include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, mistake['loc'])) or 'body'}: {mistake['msg']}" for mistake in mistakes
    )
