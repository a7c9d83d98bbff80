"""How a command fails: the message on standard error, and the exit code.

A foreseen failure is one sentence (or one line per mistake in the configuration). Anything
else is a defect and keeps its traceback, which never shows local variables: they hold keys.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

import anyio
import typer

from relay.errors import ConfigError, RelayError

FAILED: Final = 1
WRONG_CONFIGURATION: Final = 78
"""Source: sysexits.h, `EX_CONFIG`."""

Result = TypeVar("Result")


def run(work: Callable[[], Awaitable[Result]], *, use_uvloop: bool = False) -> Result:
    """Run `work` on an event loop and return its result.

    Task groups wrap the errors that end them; if all of these are foreseen, the first is raised
    bare.

    Args:
        work: Makes the coroutine.
        use_uvloop: Whether to use the faster loop, which takes longer to import.
    """
    try:
        return anyio.run(work, backend_options={"use_uvloop": use_uvloop})
    except BaseExceptionGroup as group:
        # A defect among foreseen errors must not be hidden behind one of their sentences.
        causes = list(_causes(group))
        if all(isinstance(cause, _FORESEEN) for cause in causes):
            raise causes[0] from group
        raise


def explain(error: RelayError | OSError) -> int:
    """Print what went wrong on standard error and return the exit code for it."""
    if isinstance(error, ConfigError):
        for mistake in error.mistakes:
            typer.echo(mistake, err=True)
        return WRONG_CONFIGURATION
    typer.echo(f"relay: {_sentence(error)}", err=True)
    return FAILED


_FORESEEN: Final = (RelayError, OSError, typer.Exit, typer.Abort, KeyboardInterrupt, SystemExit)


def _causes(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _causes(error)
        else:
            yield error


def _sentence(error: RelayError | OSError) -> str:
    # Python's own text of an `OSError` begins with `[Errno 2]`.
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror}"
