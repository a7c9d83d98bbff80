"""Every input that was ever of interest to the fuzzer, replayed without the fuzzer."""

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import CORPUS, TARGETS, run, seeds

CHANGES = 20

CASES = [
    pytest.param(name, path, id=f"{name}/{path.name}") for name in TARGETS for path in seeds(name)
]


@pytest.mark.parametrize(("name", "path"), CASES)
def test_what_was_found_is_read_as_promised(name: str, path: Path) -> None:
    """Inputs that once broke a promise stay fixed."""
    run(name, path.read_bytes())


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.is_json])
def test_other_documents_are_read_as_promised(name: str) -> None:
    """Hundreds of documents mutated from the known ones, the same each time."""
    rng = Random(name)
    for path in seeds(name):
        document = path.read_bytes()
        for _ in range(CHANGES):
            document = mutate(document, ["event", "users", "error", "ids"], 65_536, rng) or document
            run(name, document)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff" * 3, b"\xef\xbb\xbf", b"[" * 65_536, b" " * 65_536]
)
def test_odd_bytes_are_read_as_promised(name: str, data: bytes) -> None:
    """Nothing at all, only spaces, only brackets."""
    run(name, data)


def test_every_target_has_a_corpus_and_no_other_is_kept() -> None:
    """A fuzzer without seeds finds nothing."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(list(seeds(name)) for name in TARGETS)
