"""A pytest plugin: runs repeat themselves, and a failure names the command that repeats it.

All chance comes from one fixed seed. `--hypothesis-seed` sets another one for the values of
property tests, `--randomly-seed` for the order of the tests and for `random`.
"""

import shlex
from collections.abc import Generator
from typing import Final

import pytest

from tests.support.options import given

SEED: Final = 20261130
SEEDS: Final = ("hypothesis_seed", "randomly_seed")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the seeds that the command line leaves open, before their plugins read them."""
    for name in SEEDS:
        if vars(config.option).get(name) in {None, "default"}:
            setattr(config.option, name, SEED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the command that repeats a failure to its report."""
    del call
    report = yield
    if report.failed:
        report.sections.append(("to repeat it", replay_command(item)))
    return report


def replay_command(item: pytest.Item) -> str:
    """Return the shell command that runs a test with the seeds and options of this session."""
    marker = ["-m", "slow"] if item.get_closest_marker("slow") else []
    seeds = [f"--{name.replace('_', '-')}={vars(item.config.option)[name]}" for name in SEEDS]
    settings = [f"{name}={number}" for name, number in given.items()]
    return shlex.join([*settings, ".venv/bin/pytest", item.nodeid, *marker, *seeds])
