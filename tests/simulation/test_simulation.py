"""Delivery and outbox under a virtual clock, disk and network: thousands of runs in a minute.

A seed is a whole run: traffic, outages, full and failing disks, kills at any step, operators at
work, and finally a calm in which everything must arrive. Repeat a failing one, step
by step, with `python -m tests.simulation --seed SEED --verbose`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.simulation.mutants import BROKEN
from tests.simulation.simulation import simulate
from tests.support.options import option

FIXED_SEEDS = range(1, 21)
SEEDS_ENOUGH = 150
"""Runs within which each mutant is found; most need fewer than ten."""


def _begin(*arguments: object, hash_seed: str = "random") -> subprocess.Popen[str]:
    """Start a process that runs seeds with the given string hash seed."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}  # noqa: TID251  # a child's own
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation", *map(str, arguments)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _outputs(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    outputs = [process.communicate()[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(codes), "\n".join(outputs)
    return outputs


@pytest.mark.parametrize("seed", FIXED_SEEDS)
def test_every_promise_holds_for_known_seeds(seed: int) -> None:
    """A regression on these fixed seeds fails at once."""
    result = simulate(seed)
    assert not result.wrong, result.describe()


def test_a_seed_is_a_run() -> None:
    """Otherwise a failure could not be repeated; another seed is another run."""
    assert simulate(7) == simulate(7)
    assert simulate(7).fingerprint != simulate(8).fingerprint


@pytest.mark.slow
def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Neither string hashes nor addresses may decide anything."""
    runs = "--seed", 100, "--runs", 25, "--all"
    outputs = _outputs([_begin(*runs, hash_seed=str(seed)) for seed in (1, 4_000_000_000)])
    first, second = (re.findall(r"^seed .*$", output, re.MULTILINE) for output in outputs)
    assert first == second
    assert len(first) == 25


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_every_mutant_is_found(name: str) -> None:
    """A simulation that finds nothing proves something only if it could have."""
    seeds = range(1, SEEDS_ENOUGH + 1)
    found = next((s for s in seeds if simulate(s, mutant=BROKEN[name]).wrong), None)
    assert found is not None


@pytest.mark.slow
def test_every_promise_holds_for_many_seeds() -> None:
    """`SIM_SECONDS` sets how long, `SIM_SEED` the first seed."""
    seconds, seed = option("SIM_SECONDS", 45), option("SIM_SEED", 10_000)
    count = min(len(os.sched_getaffinity(0)), 4)
    children = [
        _begin("--seed", seed + place, "--stride", count, "--seconds", seconds)
        for place in range(count)
    ]
    for output in _outputs(children):
        print(output)  # noqa: T201  # shown with -s
