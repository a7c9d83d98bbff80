"""Every parser, fuzzed for some seconds; `FUZZ_SECONDS` and `FUZZ_SEED` change the run."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds
from tests.support.options import option

pytestmark = pytest.mark.slow

SECONDS = option("FUZZ_SECONDS", 2)
SEED = option("FUZZ_SEED", 1)
GRACE_S = 120

ROOT = Path(__file__).parents[2]
FUZZ = ("-m", "tests.fuzz.fuzz")

SENTINEL = """
import sys
from tests.fuzz import fuzz, targets

def check(data):
    assert b"[" not in data, "the sentinel saw a bracket"

targets.TARGETS["path"] = targets.Target(check)
fuzz.main(sys.argv[1:])
"""


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_a_promise(target: str, tmp_path: Path) -> None:
    """Any input is parsed or rejected, quickly and deterministically."""
    ended = _fuzz(target, tmp_path, SECONDS)
    assert ended.returncode == 0, ended.stdout[-5_000:]
    executed = ended.stdout.rpartition("stat::number_of_executed_units:")[2].split()[0]
    assert int(executed) > len(list(seeds(target)))


def test_a_broken_promise_is_found(tmp_path: Path) -> None:
    """A fuzzer that finds nothing is worth something only if it could find something."""
    ended = _fuzz("path", tmp_path, 60, program=("-c", SENTINEL))
    assert ended.returncode != 0
    assert "the sentinel saw a bracket" in ended.stdout
    (found,) = tmp_path.glob("path-crash-*")
    assert b"[" in found.read_bytes()


def _fuzz(
    target: str, folder: Path, seconds: int, program: Sequence[str] = FUZZ
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, *program, target),
            *("--seconds", str(seconds), "--seed", str(SEED), "--folder", str(folder)),
        ],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + GRACE_S,
    )
