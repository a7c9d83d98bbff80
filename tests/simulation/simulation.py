"""Runs one seed and judges the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL

import structlog

from tests.simulation.journal import Listener
from tests.simulation.loop import Stuck, run_virtually
from tests.simulation.mutants import SOUND, Mutant
from tests.simulation.result import Result
from tests.simulation.scenario import Scenario, draw_scenario
from tests.simulation.world import World


def simulate(seed: int, *, mutant: Mutant = SOUND, listener: Listener | None = None) -> Result:
    """Run a seed and judge it."""
    with _quiet():
        return run_virtually(_simulate(draw_scenario(seed), mutant, listener))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence relay's log: thousands of runs would drown what matters."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


async def _simulate(scenario: Scenario, mutant: Mutant, listener: Listener | None) -> Result:
    world = World(scenario, mutant, listener)
    try:
        await world.run()
    except Stuck as stuck:
        world.oracle.blame(str(stuck))
    finally:
        world.disk.close()
    return world.result()
