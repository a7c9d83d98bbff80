"""Promises for any request to the admin API, before it is acted on."""

from typing import Final
from urllib.parse import quote

from aiohttp import web
from pydantic import BaseModel, ValidationError
from yarl import URL

from relay.http.admin.operations import PREFIX, explain, read_path
from relay.http.admin.schemas import MAX_ID, NUL, Choice, Listing
from relay.http.admin.segment_schemas import (
    ChangeListing,
    GroupChoice,
    ImportOrder,
    RollbackOrder,
    RunListing,
    SegmentListing,
    ToldUser,
)

QUERIES: Final[tuple[type[BaseModel], ...]] = (
    Listing,
    SegmentListing,
    ChangeListing,
    RunListing,
    GroupChoice,
    ImportOrder,
)
BODIES: Final[tuple[type[BaseModel], ...]] = (Choice, RollbackOrder, ToldUser)
PATH: Final = "/users/{app}/{external_id}"


def check_question(data: bytes) -> None:
    """A body or a query fits its schema or is rejected; numbers fit into a row."""
    for shape in BODIES:
        try:
            asked: BaseModel = shape.model_validate_json(data, strict=True)
        except ValidationError as error:
            explain(error).encode()
        else:
            _check_asked(asked)
    query = URL.build(path="/", query_string=data.decode("latin-1"), encoded=True).query
    for shape in QUERIES:
        try:
            asked = shape.model_validate({name: text for name, text in query.items() if text})
        except ValidationError as error:
            explain(error).encode()
        else:
            _check_asked(asked)


def check_path(data: bytes) -> None:
    """An id is decoded exactly or rejected; none that SQLite would truncate is accepted."""
    text = data.decode("latin-1")
    try:
        values = read_path(PATH, f"{PREFIX}/users/shop/{text.replace('/', '%2F')}")
    except web.HTTPBadRequest:
        return
    user = values["external_id"]
    assert values == {"app": "shop", "external_id": user}
    assert NUL not in user
    assert read_path(PATH, f"{PREFIX}/users/shop/{quote(user, safe='')}") == values


def _check_asked(asked: BaseModel) -> None:
    for value in asked.model_dump().values():
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            assert not isinstance(number, int) or 0 <= number <= MAX_ID
    asked.model_dump_json()
