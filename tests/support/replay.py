"""A pytest plugin: under each failure stands the one command that repeats it, chance included."""

import shlex
from collections.abc import Generator
from typing import Any

import pytest

from tests.support.options import given


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the command to the report of a failure."""
    del call
    report = yield
    if report.failed:
        report.sections.append(("to repeat it", replay_command(item)))
    return report


def replay_command(item: pytest.Item) -> str:
    """Return the shell command that runs a test with the seeds of this session."""
    options: dict[str, Any] = vars(item.config.option)
    words = [".venv/bin/pytest", item.nodeid]
    if item.get_closest_marker("slow"):
        words += ["-m", "slow"]
    words += [
        f"--hypothesis-seed={options['hypothesis_seed']}",
        f"--randomly-seed={options['randomly_seed']}",
    ]
    settings = [f"{name}={number}" for name, number in given.items()]
    return shlex.join([*settings, *words])
