"""Log lines are complete, machine-readable and free of secrets."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from relay.observability.logs import REDACTED, Redactor, configure_logging


class Terminal(io.StringIO):
    """A stream that reports itself as a terminal."""

    def isatty(self) -> bool:
        """Claim to be a terminal."""
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Restore the global logging configuration."""
    loggers = [logging.getLogger(name) for name in (None, "relay", "aiohttp.access")]
    levels = [logger.level for logger in loggers]
    handlers = list(loggers[0].handlers)
    yield
    loggers[0].handlers = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the JSON lines written, without their time, which must be there and be UTC."""
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    for event in events:
        written_at = datetime.fromisoformat(event.pop("timestamp"))
        assert written_at.tzinfo == UTC
    return events


def redact(**fields: object) -> dict[str, object]:
    """Pass an event through a redactor that knows two secrets."""
    return dict(Redactor(["s3cret", "s3cret-longer"])(None, "info", fields))


def test_event_is_one_json_line_with_its_fields() -> None:
    """The whole line: name, level, logger and what was given."""
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    structlog.get_logger("relay.sender").info("batch.delivered", app="shop", events=3)
    assert lines(stream) == [
        {
            "event": "batch.delivered",
            "level": "info",
            "logger": "relay.sender",
            "app": "shop",
            "events": 3,
        }
    ]


def test_context_of_the_work_is_in_every_line() -> None:
    """Bound context need not be repeated, and is redacted too."""
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    with structlog.contextvars.bound_contextvars(app="shop", api_key="k"):
        structlog.get_logger("relay.sender").warning("batch.delayed")
    assert lines(stream) == [
        {
            "event": "batch.delayed",
            "level": "warning",
            "logger": "relay.sender",
            "app": "shop",
            "api_key": REDACTED,
        }
    ]


def test_libraries_lines_pass_the_same_pipeline() -> None:
    """A library must not log a secret, nor another format."""
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream, secrets=["s3cret"])
    logging.getLogger("aiohttp.client").error("no %s for %d", "s3cret", 7)
    assert lines(stream) == [
        {"event": "no [redacted] for 7", "level": "error", "logger": "aiohttp.client"}
    ]


def test_levels_below_the_chosen_one_are_not_written() -> None:
    """Lines of relay follow the setting."""
    stream = io.StringIO()
    configure_logging("warning", "json", stream=stream)
    log = structlog.get_logger("relay.x")
    log.debug("a.done")
    log.info("b.done")
    log.warning("c.done")
    assert [line["event"] for line in lines(stream)] == ["c.done"]


def test_debug_is_for_relay_alone() -> None:
    """Debug lines of aiosqlite have rows, access lines of aiohttp have user ids."""
    stream = io.StringIO()
    configure_logging("debug", "json", stream=stream)
    structlog.get_logger("relay.x").debug("a.done")
    logging.getLogger("aiosqlite").debug("executing INSERT ('user-1')")
    logging.getLogger("aiohttp.access").info("GET /api/v1/users/shop/user-1")
    logging.getLogger("aiohttp.client").info("listening")
    assert [line["event"] for line in lines(stream)] == ["a.done", "listening"]


def test_exception_is_structured_without_locals_or_secrets() -> None:
    """Where it happened and why, without local variables."""
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream, secrets=["s3cret"])

    def fail() -> None:
        received = "user-1@example.com"
        raise ValueError(f"{len(received)} bytes refused for s3cret")

    try:
        fail()
    except ValueError:
        structlog.get_logger("relay.x").exception("upload.failed", app="shop")
    (line,) = lines(stream)
    (exception,) = json.loads(stream.getvalue())["exception"]
    del line["exception"]
    assert line == {"event": "upload.failed", "level": "error", "logger": "relay.x", "app": "shop"}
    assert exception["exc_type"] == "ValueError"
    assert exception["exc_value"] == "18 bytes refused for [redacted]"
    assert exception["frames"][-1]["name"] == "fail"
    assert "user-1@example.com" not in stream.getvalue()


@pytest.mark.parametrize(
    ("log_format", "stream"), [("console", io.StringIO()), ("auto", Terminal())]
)
def test_console_lines_are_text_without_secrets(
    log_format: Literal["auto", "console"], stream: io.StringIO
) -> None:
    """On a terminal, or by setting, lines are text; secrets still stay out."""
    configure_logging("info", log_format, stream=stream, secrets=["s3cret"])
    error = ValueError("refused s3cret")
    log = structlog.get_logger("relay.x")
    log.error("upload.failed", detail="s3cret", user_id="u-1", exc_info=error)
    text = stream.getvalue()
    assert "upload.failed" in text
    assert "ValueError: refused [redacted]" in text
    assert "s3cret" not in text
    assert "u-1" not in text


def test_auto_is_json_without_a_terminal() -> None:
    """Lines for the journal are machine-readable."""
    stream = io.StringIO()
    configure_logging("info", "auto", stream=stream)
    structlog.get_logger("relay.x").info("a.done")
    assert lines(stream) == [{"event": "a.done", "level": "info", "logger": "relay.x"}]


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Systemd takes it to the journal."""
    configure_logging("info", "json")
    structlog.get_logger("relay.x").info("a.done")
    assert json.loads(capsys.readouterr().out)["event"] == "a.done"


def test_configuring_again_replaces_the_configuration() -> None:
    """No line is written twice, and existing loggers follow."""
    first, second = io.StringIO(), io.StringIO()
    configure_logging("info", "json", stream=first)
    log = structlog.get_logger("relay.x")
    log.info("a.done")
    configure_logging("info", "json", stream=second)
    log.info("b.done")
    assert [line["event"] for line in lines(first) + lines(second)] == ["a.done", "b.done"]


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "webhook_tokens",
        "api_key",
        "apiKey",
        "secret",
        "amplitude_secret_key",
        "password",
        "Authorization",
        "X-Relay-Token",
        "cookie",
        "body",
        "bodies",
        "event_payload",
        "external_id",
        "externalId",
        "user_ids",
        "device_id",
        "subscription_id",
        "onesignal_id",
        "email",
        "phone",
    ],
)
def test_private_fields_are_redacted_by_name(name: str) -> None:
    """At any depth, whatever the value's kind."""
    assert redact(**{name: "x"}) == {name: REDACTED}
    assert redact(headers={"a": [{name: 7}]}) == {"headers": {"a": [{name: REDACTED}]}}


def test_harmless_fields_are_kept() -> None:
    """Sizes, counts and ids of no user are what logs are for."""
    fields = {
        "event": "batch.delivered",
        "app": "shop",
        "cohort_id": "7khm89cz",
        "message_id": "m-1",
        "insert_id": "e-1",
        "body_bytes": 10,
        "tokens_left": 3,
        "monkey": "x",
        "duration_ms": 1.5,
        "is_halted": True,
        "last_error": None,
    }
    assert redact(**fields) == fields


def test_secrets_are_redacted_everywhere() -> None:
    """In names, nested values, errors and objects; the longer secret first."""
    assert redact(
        event="got s3cret-longer and s3cret",
        url="http://h/?k=s3cret",
        nested={"s3cret": ("s3cret", {"a": "xs3cretx"})},
        error=ValueError("for s3cret"),
        raw=b"s3cret",
        hidden=SecretStr("s3cret"),
    ) == {
        "event": "got [redacted] and [redacted]",
        "url": "http://h/?k=[redacted]",
        "nested": {REDACTED: [REDACTED, {"a": "x[redacted]x"}]},
        "error": "ValueError('for [redacted]')",
        "raw": "b'[redacted]'",
        "hidden": "SecretStr('**********')",
    }


def test_without_secrets_nothing_is_replaced() -> None:
    """An empty secret matches nothing, rather than everything."""
    assert dict(Redactor([""])(None, "info", {"a": "text"})) == {"a": "text"}


def test_what_json_or_utf8_cannot_hold_is_still_written() -> None:
    """A log line must not fail on its content."""
    stream = io.StringIO()
    configure_logging("info", "json", stream=stream)
    structlog.get_logger("relay.x").info("a.done", text="\ud800", ratio=float("nan"))
    (line,) = lines(stream)
    assert (line["text"], line["ratio"]) == ("\\ud800", "nan")


@given(st.text("0123[].*", min_size=1), st.text("abc"), st.text("abc"))
def test_secret_is_redacted_in_any_text(secret: str, before: str, after: str) -> None:
    """Whatever surrounds it, and whatever regular expressions would match."""
    event = Redactor([secret])(None, "info", {"a": before + secret + after})
    assert event == {"a": before + REDACTED + after}
