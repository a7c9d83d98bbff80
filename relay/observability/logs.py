"""Log lines: one pipeline to one stream, for relay and its libraries alike.

A line is an event named `noun.past_participle` with named fields. `Redactor` removes what must
never be written: secrets anywhere, and the values of fields whose names say that they are personal
or a payload. Exceptions are written without local variables, which hold bodies and keys.
"""

import logging
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"

# Endings of the names of fields that nobody may read.
_PRIVATE_NAME: Final = re.compile(
    r"(?:^|_)(?:token|key|secret|password|authorization|cookie|credential|body|bodie|payload"
    r"|external_id|user_id|device_id|subscription_id|onesignal_id|email|phone)s?$"
)
_CAMEL_STEP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# Libraries below INFO write what they handle: aiosqlite its SQL with all values.
_LIBRARY_FLOOR: Final = logging.INFO
# aiohttp writes the path of every request, and paths hold user ids.
_TOO_TALKATIVE: Final = ("aiohttp.access",)


class Redactor:
    """Removes secrets and private fields from an event, as a structlog processor.

    Args:
        secrets: Texts that must not appear, in any field, at any depth.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted({text for text in secrets if text}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG002  structlog's signature
        """Return the event without anything private."""
        return {self._clean_text(name): self._clean(name, value) for name, value in event.items()}

    def _clean(self, name: str, value: object) -> object:
        if _is_private(name):
            return REDACTED
        match value:
            case float() if not math.isfinite(value):
                return str(value)  # JSON cannot express it
            case None | bool() | int() | float():
                return value
            case str():
                return self._clean_text(value)
            case Mapping():
                return {self._clean_text(str(k)): self._clean(str(k), v) for k, v in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._clean("", item) for item in value]
            case _:
                return self._clean_text(repr(value))

    def _clean_text(self, text: str) -> str:
        """Replace secrets, and what UTF-8 cannot encode: writing a line must never fail."""
        sound = text.encode("utf-8", "backslashreplace").decode()
        return self._secrets.sub(REDACTED, sound)


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    log_format: Literal["auto", "console", "json"],
    *,
    stream: TextIO | None = None,
    secrets: Iterable[str] = (),
) -> None:
    """Send every line of this process, structlog's and the standard library's, to one stream.

    Args:
        level: The least important lines of relay; libraries never go below info.
        log_format: `auto` is console on a terminal, JSON elsewhere.
        stream: Standard output by default.
        secrets: Texts that must never appear.
    """
    out = stream or sys.stdout
    is_console = log_format == "console" or (log_format == "auto" and out.isatty())
    first_steps = _first_steps()
    wrap = structlog.stdlib.ProcessorFormatter.wrap_for_formatter
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *first_steps, wrap],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # so that it can be configured again
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first_steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exception_step(is_console=is_console),
                Redactor(secrets),
                _render_step(is_console=is_console, has_colors=out.isatty()),
            ],
        )
    )
    _set_levels(handler, logging.getLevelNamesMapping()[level.upper()])


def _set_levels(handler: logging.Handler, number: int) -> None:
    """Send everything to `handler` but what libraries say too much of."""
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, _LIBRARY_FLOOR))
    logging.getLogger("relay").setLevel(number)
    for name in _TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").filters = [_name_the_error_alone]


def _name_the_error_alone(record: logging.LogRecord) -> bool:
    """Keep only the kind of error: aiohttp quotes the request it could not serve."""
    error = record.exc_info[0] if record.exc_info else None
    record.msg = f"request failed: {error.__name__}" if error else "request failed"
    record.args, record.exc_info = (), None
    return True


def _first_steps() -> list[Processor]:
    """Return the processors of every line, relay's and its libraries'."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _exception_step(*, is_console: bool) -> Processor:
    if is_console:
        return structlog.processors.format_exc_info
    return structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))


def _render_step(*, is_console: bool, has_colors: bool) -> Processor:
    if is_console:
        return structlog.dev.ConsoleRenderer(
            colors=has_colors, exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.processors.JSONRenderer()


def _is_private(name: str) -> bool:
    snake = _CAMEL_STEP.sub("_", name).replace("-", "_").lower()
    return _PRIVATE_NAME.search(snake) is not None
