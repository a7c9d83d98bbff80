"""Runs seeds of the simulation, or prints one step by step."""

import argparse
import sys
from itertools import count, takewhile
from time import monotonic

from tests.simulation.simulation import simulate


def main() -> int:
    """Run the given seeds; return 1 if anything was wrong."""
    given = _arguments()
    listener = print if given.verbose else None
    began_s = monotonic()
    failed, processes, events, seed = 0, 0, 0, given.seed
    for runs in takewhile(lambda done: _continues(given, done, monotonic() - began_s), count()):
        seed = given.seed + runs * given.stride
        result = simulate(seed, listener=listener)
        failed, processes = failed + bool(result.wrong), processes + result.processes
        events += result.events
        if result.wrong or given.all:
            print(result.describe())  # noqa: T201  # a command prints
        done = runs + 1
    print(  # noqa: T201  # likewise
        f"{done} runs, seeds {given.seed} to {seed}: {events} events, {processes} processes,"
        f" {failed} failed, {monotonic() - began_s:.1f} s"
    )
    return min(failed, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many, one seed each")
    parser.add_argument("--seconds", type=float, help="go on so long instead")
    parser.add_argument("--stride", type=int, default=1, help="from one seed to the next")
    parser.add_argument("--all", action="store_true", help="describe runs that went well too")
    parser.add_argument("--verbose", action="store_true", help="print every step")
    return parser.parse_args()


def _continues(given: argparse.Namespace, done: int, lasted_s: float) -> bool:
    if given.seconds is None:
        return done < int(given.runs)
    return not done or lasted_s < float(given.seconds)


if __name__ == "__main__":
    sys.exit(main())
