"""What of relay's own errors a caller is told, and with which status."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from relay.cohorts.polled_app import PollingOff, UnknownCohort
from relay.directory.importer import ImportBusy
from relay.directory.sync import SyncOff
from relay.errors import FileRejected
from relay.segments.review import NotPossible, UnknownRun


@contextmanager
def telling() -> Iterator[None]:
    """Turn what a person can do something about into an answer that says so.

    Raises:
        web.HTTPException: In its place.
    """
    try:
        yield
    except (UnknownCohort, UnknownRun) as error:
        raise web.HTTPNotFound(text=str(error)) from error
    except (ImportBusy, NotPossible, PollingOff, SyncOff) as error:
        raise web.HTTPConflict(text=str(error)) from error
    except FileRejected as error:
        raise web.HTTPBadRequest(text=f"{error.reason}: {error.detail}") from error
