"""What the demo's sabotages replace."""

import re
from importlib import import_module
from types import ModuleType

import pytest

from tests.support.sabotages import CREDULOUS, GULLIBLE


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (import_module(f"relay.{package}.{module}"), name)
        for code in (CREDULOUS, GULLIBLE)
        for package, module in re.findall(r"from relay\.(\w+) import (\w+)", code)
        for name in re.findall(rf"{module}\.(\w+) =", code)
    ],
)
def test_a_sabotage_replaces_what_exists(module: ModuleType, name: str) -> None:
    """A function that was renamed would leave relay intact, and its demo rightly content."""
    assert hasattr(module, name)
