"""Answers of any length: NDJSON, an object a line, read from the disk as fast as it is taken.

A body that ends as it should was sent whole; whatever goes wrong on the way cuts the connection.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio
import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel

from relay.database.database import Row

log = structlog.get_logger(__name__)

NDJSON = "application/x-ndjson"

READER_TIMEOUT_S = 60.0
"""For a reader to take one block; whoever stops reading would hold the old pages of the disk."""

STREAM_TIMEOUT_S = 900.0
"""For a whole answer, however steadily it is read: the disk keeps old pages that long."""


@dataclass(frozen=True, slots=True)
class NdjsonStream:
    """An answer that is sent line by line.

    Attributes:
        blocks: Opens the rows; their columns are the fields of a line.
    """

    blocks: AbstractAsyncContextManager[AsyncIterator[list[Row]]]


def wants_lines(request: web.Request) -> bool:
    """Return whether a caller asks for lines where a page is the rule."""
    return NDJSON in request.headers.get("Accept", "")


async def send_lines(
    request: web.Request,
    lines: NdjsonStream,
    shape: type[BaseModel],
    *,
    block_timeout_s: float = READER_TIMEOUT_S,
    timeout_s: float = STREAM_TIMEOUT_S,
) -> web.StreamResponse:
    """Send every row as an object of that shape.

    Args:
        request: Who asks.
        lines: The rows.
        shape: Names their columns.
        block_timeout_s: For the reader to take one block.
        timeout_s: For the whole answer.

    Raises:
        StoreError: If no row can be read now; nothing is sent then.
    """
    names = tuple(shape.model_fields)
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    async with lines.blocks as blocks:
        try:
            with anyio.fail_after(timeout_s):
                await response.prepare(request)
                async for block in blocks:
                    with anyio.fail_after(block_timeout_s):
                        await response.write(_encode(names, block))
                with anyio.fail_after(block_timeout_s):
                    await response.write_eof()
        except ConnectionError:
            log.debug("stream.left")
        except Exception as error:  # noqa: BLE001  # the answer has begun, so no other can be sent
            log.warning("stream.cut", error=type(error).__name__)
            _cut(request)
    return response


def _encode(names: Sequence[str], rows: Sequence[Row]) -> bytes:
    return b"".join(
        orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
        for row in rows
    )


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
