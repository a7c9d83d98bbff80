"""The OpenAPI document of the admin API, made from the operations themselves."""

import re
from collections.abc import Sequence

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
from relay.doors.admin.models import ErrorAnswer
from relay.doors.admin.operations import PREFIX, Nothing, Operation

_VARIABLE = re.compile(r"\{(\w+)\}")
_JSON = "application/json"
_BEARER = "bearer"


def describe(operations: Sequence[Operation[BaseModel]]) -> bytes:
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
    return whole.model_dump_json(by_alias=True, exclude_none=True, exclude_unset=True).encode()


def _document(operation: Operation[BaseModel]) -> DocumentedOperation:
    parameters = [
        Parameter.model_validate(
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        )
        for name in _VARIABLE.findall(operation.path)
    ]
    body = None
    if operation.asked is not Nothing and operation.method == "GET":
        parameters += _query(operation.asked)
    elif operation.asked is not Nothing:
        body = RequestBody(content=_content(operation.asked), required=True)
    errors = {"400": "Not understood", "401": "No token", "403": "Not from here", "404": "Unknown"}
    return DocumentedOperation(
        summary=operation.summary,
        operationId=_name(operation),
        parameters=parameters or None,
        requestBody=body,
        responses={
            "200": Response(description="Done", content=_content(operation.answer)),
            **{
                status: Response(description=text, content=_content(ErrorAnswer))
                for status, text in errors.items()
            },
        },
    )


def _query(shape: type[BaseModel]) -> list[Parameter]:
    schema = shape.model_json_schema()
    required = schema.get("required", [])
    return [
        Parameter.model_validate(
            {"name": name, "in": "query", "required": name in required, "schema": described}
        )
        for name, described in schema["properties"].items()
    ]


def _content(shape: type[BaseModel]) -> dict[str, MediaType]:
    return {_JSON: MediaType(media_type_schema=PydanticSchema(schema_class=shape))}


def _name(operation: Operation[BaseModel]) -> str:
    words = _VARIABLE.sub(r"\1", operation.path).replace("-", "/").strip("/").split("/")
    return "_".join([operation.method.lower(), *words])
