"""The private names of aiohttp's server that the doors rely on, each with what breaks without it.

aiohttp promises none of them, so `pyproject.toml` pins it below the next minor version. Before
the pin is raised, this file says what to look at.
"""

import ast
import inspect
from importlib.metadata import version
from pathlib import Path

import pytest
from aiohttp import web, web_protocol
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]

SOURCES = sorted((ROOT / "relay" / "http").rglob("*.py"))

PROTOCOL_NAMES = {
    "_handle_request": "pipelined requests no longer wait for the semaphore of their door",
    "_messages": "pipelined requests are not noticed, and garbage behind a body gets an answer",
    "_current_request": "busy connections are evicted, and heads in flight time out",
    "_request_count": "new requests are not noticed: every connection counts as silent",
    "_max_msg_queue_size": "dozens of pipelined requests are read before the first is answered",
    "_msg_queue_resume_size": "a connection with pipelined requests never reads again",
    "_loop": "no timeout is checked",
}

RUNNER_NAMES = {"_make_server": "the admin door runs on aiohttp's own, unbounded connections"}


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_the_protocol_has_the_name(name: str) -> None:
    """A slot of every connection, or a method of it."""
    assert hasattr(web_protocol.RequestHandler, name), PROTOCOL_NAMES[name]


@pytest.mark.parametrize("name", RUNNER_NAMES)
def test_the_runner_has_the_name(name: str) -> None:
    """An application's server is made in one place."""
    assert inspect.iscoroutinefunction(getattr(web.AppRunner, name, None)), RUNNER_NAMES[name]


def test_a_request_is_handled_with_these_arguments() -> None:
    """`ServerProtocol` overrides the method and passes its arguments on."""
    parameters = inspect.signature(web_protocol.RequestHandler._handle_request).parameters  # noqa: SLF001
    assert list(parameters) == ["self", "request", "start_time", "request_handler"]


def test_the_queue_limits_are_compared_as_counts() -> None:
    """Reading pauses at the one and resumes at the other; both are set after construction."""
    handler = inspect.getsource(web_protocol.RequestHandler)
    assert "self._max_msg_queue_size" in handler
    assert "self._msg_queue_resume_size" in handler


def test_no_other_private_name_is_used() -> None:
    """A name missing from these lists would break silently."""
    ours = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                ours.add(node.attr)
    listed = PROTOCOL_NAMES.keys() | RUNNER_NAMES.keys()
    used = {
        node.attr
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
    }
    assert used - ours - {"_asdict", "_replace"} <= listed
    server = (ROOT / "relay/http/server").glob("*.py")
    text = "".join(path.read_text("utf-8") for path in server)
    assert {name for name in listed if name not in text} == set()


def test_the_pin_ends_before_the_next_minor_version() -> None:
    """A minor version of aiohttp may rename what is private."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    [line] = [line for line in project.splitlines() if line.strip().startswith('"aiohttp>=')]
    pin = Requirement(line.strip().strip('",')).specifier
    major, minor = map(int, version("aiohttp").split(".")[:2])
    assert version("aiohttp") in pin
    assert f"{major}.{minor + 1}" not in pin
