"""`python -m tests.simulation`: runs seeds, or replays one step by step."""

import argparse
import sys
from time import monotonic

from tests.simulation.simulation import simulate


def main() -> int:
    """Run what is asked for; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--verbose", action="store_true", help="print every step")
    given = parser.parse_args()
    listener = print if given.verbose else None
    began_s, failed, events = monotonic(), 0, 0
    for seed in range(given.seed, given.seed + given.runs):
        result = simulate(seed, listener=listener)
        events += result.events
        failed += bool(result.wrong)
        if result.wrong or given.runs == 1:
            print(result.describe())
    print(f"{given.runs} runs, {events} events, {failed} failed, {monotonic() - began_s:.1f} s")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
