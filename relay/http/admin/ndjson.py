"""Answers of any length: NDJSON, an object a line, read from disk as fast as the client reads.

A response that ends properly is complete: any failure on the way aborts the connection.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel

log = structlog.get_logger(__name__)

NDJSON = "application/x-ndjson"

READER_TIMEOUT_S = 60.0
"""For the client to read one block: a stalled stream keeps old pages of the database on disk."""

STREAM_TIMEOUT_S = 900.0
"""For a whole answer, however steadily it is read: old pages stay on disk that long."""

Rows: TypeAlias = Sequence[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class NdjsonStream:
    """An answer of one object a line.

    Attributes:
        blocks: Opens the rows; their columns are the fields of a line.
    """

    blocks: AbstractAsyncContextManager[AsyncIterator[Rows]]


def as_objects(shape: type[BaseModel], rows: Rows) -> Iterator[dict[str, object]]:
    """Yield each row as an object whose fields are the columns, in the order of `shape`."""
    names = tuple(shape.model_fields)
    return (dict(zip(names, row, strict=True)) for row in rows)


def wants_lines(request: web.Request) -> bool:
    """Return whether a request accepts NDJSON where a page is the rule."""
    return NDJSON in request.headers.get("Accept", "")


async def send_lines(
    request: web.Request,
    stream: NdjsonStream,
    shape: type[BaseModel],
    *,
    block_timeout_s: float = READER_TIMEOUT_S,
    timeout_s: float = STREAM_TIMEOUT_S,
) -> web.StreamResponse:
    """Send every row as an object of that shape.

    Args:
        request: The request to answer.
        stream: The rows.
        shape: Names their columns.
        block_timeout_s: For the client to read one block.
        timeout_s: For the whole answer.

    Raises:
        StoreError: If no row can be read; nothing has been sent then.
    """
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    async with stream.blocks as blocks:
        try:
            with anyio.fail_after(timeout_s):
                await response.prepare(request)
                async for block in blocks:
                    with anyio.fail_after(block_timeout_s):
                        await response.write(_encode(shape, block))
                with anyio.fail_after(block_timeout_s):
                    await response.write_eof()
        except ConnectionError:
            log.debug("stream.left")
        except Exception as error:  # noqa: BLE001  # the answer has begun, so no other can be sent
            log.warning("stream.cut", error=type(error).__name__)
            _abort(request)
    return response


def _encode(shape: type[BaseModel], rows: Rows) -> bytes:
    return b"".join(
        orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in as_objects(shape, rows)
    )


def _abort(request: web.Request) -> None:
    # Closing in order would end the chunked body, and half a list would pass for a whole one.
    if request.transport is not None:
        request.transport.abort()
