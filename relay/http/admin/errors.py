"""Which of relay's own errors a caller can act on, and the status each is answered with."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from relay.errors import Conflict, FileRejected, NotFound


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
