"""The stand-ins hardly depend on relay, and not on each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import relay.sandbox

ROOT = Path(relay.sandbox.__file__).parent
PRODUCT = {"relay.clock", "relay.errors", "relay.events.catalog"}
ROOMS = sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every import in a folder: the file, and what it imports."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("relay"):
                yield path.name, node.module or ""


def test_there_are_four_packages() -> None:
    """The check below would pass on an empty list."""
    assert ROOMS == ["amplitude", "cohorts", "common", "onesignal"]


def test_the_sandbox_is_independent_of_the_product() -> None:
    """A stand-in that shared relay's code would share its mistakes."""
    foreign = {
        module
        for _, module in imports(ROOT)
        if module != "relay.sandbox" and not module.startswith("relay.sandbox.")
    }
    assert foreign == PRODUCT


@pytest.mark.parametrize("room", ROOMS)
def test_a_stand_in_imports_itself_and_common_code(room: str) -> None:
    """Only the server imports all of them."""
    known = (f"relay.sandbox.{room}", "relay.sandbox.common")
    inside = {each for each in imports(ROOT / room) if each[1].startswith("relay.sandbox")}
    assert {each for each in inside if not each[1].startswith(known)} == set()
