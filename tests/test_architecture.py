"""Package = floor: the order of relay's packages, and the budgets that keep modules readable."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_CONSTRUCTOR_PARAMETERS = 6
MAX_LOOSE_MODULES = 5

PACKAGES = [
    "errors",
    "clock",
    "heartbeat",
    "process",
    "upstream",
    "onesignal",
    "events",
    "amplitude",
    "database",
    "database.recovery",
    "outbox",
    "segments",
    "delivery",
    "cohorts",
    "directory",
    "ingest",
    "maintenance",
    "observability",
    "http",
    "settings",
    "daemon",
    "sandbox",
    "cli",
    "demo",
    "__main__",
]
"""Lowest first. A module imports its own package and earlier ones, nothing else."""

PURE_PACKAGES = {"errors", "events"}
"""No `async` in these: time and chance are arguments, and nothing waits."""

SQLITE_PACKAGES = {"database", "database.recovery", "outbox", "segments"}
"""The only ones that know which database holds the rows."""


def _modules() -> dict[str, Path]:
    """Return every module by its name without the leading `relay.`; the root is empty."""
    found = {}
    for path in sorted((ROOT / "relay").rglob("*.py")):
        parts = path.relative_to(ROOT / "relay").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _package(module: str) -> str:
    """Return the entry of `PACKAGES` that a module belongs to: the longest that contains it."""
    holders = [name for name in PACKAGES if f"{module}.".startswith(f"{name}.")]
    return max(holders, key=len, default="")


def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _imports(module: str) -> Iterator[str]:
    """Yield the modules of relay that `module` imports, also inside functions."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [
                name if name.removeprefix("relay.") in MODULES else str(node.module)
                for name in submodules
            ]
        else:
            continue
        for name in names:
            if name.startswith("relay.") and name.removeprefix("relay.") in MODULES:
                yield name.removeprefix("relay.")


def _functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_module_has_a_floor() -> None:
    """A new package is put where it belongs; a removed one leaves the list."""
    assert [module for module in MODULES if module and not _package(module)] == []
    assert [name for name in PACKAGES if name not in MODULES] == []


def test_few_modules_lie_loose() -> None:
    """A newcomer finds rooms with names, not a pile of files."""
    loose = [module for module in MODULES if module and MODULES[module].parent == ROOT / "relay"]
    assert len(loose) <= MAX_LOOSE_MODULES, loose


@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_imports_point_down(module: str) -> None:
    """A package never knows which packages stand on it."""
    floor = PACKAGES.index(_package(module))
    upward = [name for name in _imports(module) if PACKAGES.index(_package(name)) > floor]
    assert upward == []


def test_no_circle_of_modules() -> None:
    """Inside a package, too, one can read from the bottom up."""
    graph = {module: set(_imports(module)) - {module} for module in MODULES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_only_the_stores_know_sqlite(module: str) -> None:
    """A second engine needs to change these packages alone."""
    engines = {"sqlite3", "aiosqlite"}
    knows = any(
        isinstance(node, ast.Import) and any(alias.name in engines for alias in node.names)
        for node in ast.walk(_tree(module))
    )
    assert not knows or _package(module) in SQLITE_PACKAGES


def test_modules_are_short() -> None:
    """One idea a module."""
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > MAX_MODULE_LINES} == {}


def test_functions_are_short() -> None:
    """One thought a function, its docstring included."""
    long = {
        f"{module}.{function.name}": length
        for module in MODULES
        for function in _functions(module)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_constructors_take_few_parameters() -> None:
    """More would be a part that has no name yet."""
    wide = {
        module: len(every)
        for module in MODULES
        for function in _functions(module)
        if function.name == "__init__"
        if len(every := function.args.args[1:] + function.args.kwonlyargs)
        > MAX_CONSTRUCTOR_PARAMETERS
    }
    assert wide == {}


def test_only_the_clock_module_reads_a_clock() -> None:
    """Time is a dependency everywhere else."""
    readers = [
        module
        for module in MODULES
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Import) and any(alias.name == "time" for alias in node.names)
    ]
    assert readers == ["clock"]


def _is_pure(module: str) -> bool:
    text = ast.get_docstring(_tree(module)) or ""
    return _package(module) in PURE_PACKAGES or re.search(r"\bPure[.:]", text) is not None


def test_pure_modules_do_not_wait() -> None:
    """What an event is, and what follows from an answer, is decided without disk and network.

    A module that calls itself pure in its docstring is one, and so is one of a pure package.
    """
    waiting = [
        module
        for module in MODULES
        if _is_pure(module)
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith)
    ]
    assert waiting == []
    assert {"delivery.decide", "delivery.poison", "amplitude.judge"} <= set(
        filter(_is_pure, MODULES)
    )
