"""The OpenAPI document of the admin API, made from the operations themselves."""

from collections.abc import Sequence
from typing import Any

import orjson
from openapi_pydantic import (
    Components,
    Info,
    MediaType,
    OpenAPI,
    Parameter,
    PathItem,
    RequestBody,
    Response,
    SecurityScheme,
)
from openapi_pydantic import Operation as DocumentedOperation
from openapi_pydantic.util import PydanticSchema, construct_open_api_with_schema_class
from pydantic import BaseModel

from relay import __version__
from relay.http.admin.ndjson import NDJSON
from relay.http.admin.operations import PREFIX, VARIABLE, AnyOperation, NoInput, NoOutput
from relay.http.admin.schemas import MAX_ID, ErrorAnswer

_JSON = "application/json"
_FILE = "text/csv"
_BEARER = "bearer"
_BOUNDS = frozenset({"minimum", "maximum"})


def describe(operations: Sequence[AnyOperation[Any]]) -> bytes:
    """Return the document as JSON."""
    paths: dict[str, PathItem] = {}
    for operation in operations:
        item = paths.setdefault(PREFIX + operation.path, PathItem())
        setattr(item, operation.method.lower(), _document(operation))
    document = OpenAPI(
        openapi="3.1.1",
        info=Info(title="relay admin API", version=__version__),
        paths=paths,
        components=Components(
            securitySchemes={_BEARER: SecurityScheme(type="http", scheme="bearer")}
        ),
        security=[{_BEARER: []}],
    )
    whole = construct_open_api_with_schema_class(document)
    described = whole.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    return orjson.dumps(_with_whole_bounds(described))


def _with_whole_bounds(described: Any) -> Any:  # noqa: ANN401  # any part of the document
    """Return a part of the document with its bounds as they were.

    The library keeps them as floats, which rounds the largest id to one more than that.
    """
    if isinstance(described, list):
        return [_with_whole_bounds(part) for part in described]
    if not isinstance(described, dict):
        return described
    return {
        name: min(int(part), MAX_ID)
        if name in _BOUNDS and isinstance(part, float)
        else _with_whole_bounds(part)
        for name, part in described.items()
    }


def _document(operation: AnyOperation[Any]) -> DocumentedOperation:
    parameters = [
        Parameter.model_validate(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        )
        for name in VARIABLE.findall(operation.path)
    ]
    if operation.input is not NoInput and operation.has_query:
        parameters += _query(operation.input)
    return DocumentedOperation(
        summary=operation.summary,
        operationId=_name(operation),
        parameters=parameters or None,
        requestBody=_body(operation),
        responses={**_done(operation), **_errors(operation)},
    )


def _body(operation: AnyOperation[Any]) -> RequestBody | None:
    if operation.takes_file:
        return RequestBody(content={_FILE: MediaType()}, required=True)
    if operation.input is NoInput or operation.has_query:
        return None
    return RequestBody(content=_content(operation.input), required=True)


def _done(operation: AnyOperation[Any]) -> dict[str, Response]:
    content = {} if operation.output is NoOutput else _content(operation.output)
    if operation.lines:
        content |= _content(operation.lines, NDJSON)
    if not content:
        return {"204": Response(description="Done")}
    return {"200": Response(description="Done", content=content)}


def _errors(operation: AnyOperation[Any]) -> dict[str, Response]:
    texts = {"400": "Not understood", "401": "No token", "403": "Not from here", "404": "Unknown"}
    if operation.conflict:
        texts["409"] = operation.conflict
    return {
        status: Response(description=text, content=_content(ErrorAnswer))
        for status, text in texts.items()
    }


def _query(shape: type[BaseModel]) -> list[Parameter]:
    schema = shape.model_json_schema()
    required = schema.get("required", [])
    return [
        Parameter.model_validate(
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "allowEmptyValue": True,
                "schema": described,
            }
        )
        for name, described in schema["properties"].items()
    ]


def _content(shape: type[BaseModel], media_type: str = _JSON) -> dict[str, MediaType]:
    return {media_type: MediaType(media_type_schema=PydanticSchema(schema_class=shape))}


def _name(operation: AnyOperation[Any]) -> str:
    words = VARIABLE.sub(r"\1", operation.path).replace("-", "/").strip("/").split("/")
    return "_".join([operation.method.lower(), *words])
