"""The order of relay's modules, and the budgets that keep each of them readable.

Imports point from a module to earlier entries of `ORDER` only, so no cycle is possible and
a floor never knows who stands on it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_CONSTRUCTOR_PARAMETERS = 6

ORDER = """
# Words: what everybody may say.
relay
relay.errors
relay.clock
relay.heartbeat

# Rules: pure, time is an argument.
relay.events.*
relay.upstream
relay.upstream.gunzip
relay.upstream.csv_rows
relay.cohorts
relay.onesignal.restricted_ids
relay.segments.guard
relay.segments.plausibility
relay.segments.watermark
relay.cohorts.budget
relay.amplitude.cohort_message
relay.amplitude.cohort_list
relay.amplitude.cohort_file
relay.directory
relay.onesignal.export_file
relay.events.observation
relay.onesignal
relay.amplitude
relay.amplitude.verdicts
relay.amplitude.judge
relay.ingest.upload_responses
relay.ingest.upload_request
relay.ingest.upload_events
relay.delivery
relay.delivery.backoff
relay.delivery.concurrency
relay.delivery.refusals
relay.delivery.batching
relay.outbox
relay.outbox.spans
relay.outbox.selection
relay.outbox.mentions
relay.segments
relay.events.observation

# The engine: SQLite, one writer with group commit.
relay.database
relay.database.connection
relay.database.migrations
relay.database.queries
relay.database.space
relay.database.failures
relay.database.folder
relay.database.tally
relay.database.ticket
relay.database.database
relay.database.scratch
relay.database.records
relay.database.log_file
relay.database.pages
relay.database.salvage
relay.database.set_aside
relay.database.mending
relay.database.copying

# Edges: the outbox's tables, Amplitude's wire.
relay.outbox.sql
relay.outbox.steady_time
relay.outbox.counters
relay.outbox.message_cache
relay.outbox.quarantine
relay.outbox.batch
relay.outbox.append
relay.outbox.writer
relay.outbox.retention
relay.outbox.claims
relay.outbox.dead_letters
relay.outbox.erasure
relay.outbox.mending
relay.outbox.store
relay.reserve
relay.segments.sql
relay.segments.cohort_row
relay.segments.segment_update
relay.segments.runs
relay.segments.sorting
relay.segments.staging
relay.segments.publish
relay.segments.download_log
relay.segments.webhook
relay.segments.review
relay.segments.cohorts
relay.segments.erasure
relay.segments.directory
relay.segments.read_model
relay.segments.views
relay.segments.retention
relay.segments.mending
relay.segments.store
relay.names
relay.amplitude.events_api
relay.upstream.client
relay.amplitude.cohorts_api
relay.onesignal.export_api

# Services: what has a loop of its own, and its parts.
relay.delivery.stop
relay.delivery.gate
relay.delivery.window
relay.delivery.dispatcher
relay.delivery.line
relay.delivery.load
relay.delivery.witness
relay.delivery.trip
relay.delivery.sender
relay.delivery.delivery
relay.directory.importer
relay.directory.sync
relay.directory.observer
relay.cohorts.download
relay.cohorts.poll_state
relay.cohorts.polled_app
relay.cohorts.usage
relay.cohorts.poller
relay.cohorts.webhook
relay.forgetting
relay.reception
relay.ingest.uploads
relay.admission
relay.housekeeping
relay.health
relay.metrics
relay.status
relay.http.*
relay.http.admin.*

# Assembly: who reads configuration and environment, and puts the parts together.
relay.settings.*
relay.logs
relay.systemd
relay.memory
relay.descriptors
relay.assembly
relay.event_side
relay.cohort_side
relay.door_assembly
relay.reloading
relay.daemon
relay.sandbox.*
relay.cli.*
relay.demo.*
relay.__main__
"""

ENTRIES = [line for line in ORDER.splitlines() if line and not line.startswith("#")]


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "relay").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _place(module: str) -> int:
    """Return a module's place in the order: the entry that names it most closely, or -1."""
    named = [
        (len(entry), place)
        for place, entry in enumerate(ENTRIES)
        if module == entry or (f"{module}.".startswith(entry.removesuffix("*")) and "*" in entry)
    ]
    return max(named, default=(0, -1))[1]


def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _imports(module: str) -> Iterator[str]:
    """Yield the modules of relay that `module` imports, wherever it does."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                target = whole if whole in MODULES else str(node.module)
                if target in MODULES:
                    yield target


def _functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_module_has_its_place() -> None:
    """A new module says on which floor it stands; a gone one leaves the list."""
    assert [module for module in MODULES if _place(module) < 0] == []
    named = {entry.removesuffix(".*") for entry in ENTRIES}
    assert [entry for entry in named if entry not in MODULES] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_earlier_entries(module: str) -> None:
    """Whoever stands below knows nothing of who stands above; a package is one entry."""
    late = [
        target
        for target in _imports(module)
        if _place(target) > _place(module)
        or (_place(target) == _place(module) and "*" not in ENTRIES[_place(module)])
    ]
    assert late == []


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
    """More would be a part that was not yet named."""
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
    assert readers == ["relay.clock"]


def test_rules_do_not_wait() -> None:
    """Floors of words and rules hold no `async` and touch neither disk nor net."""
    pure = ORDER.split("# The engine", maxsplit=1)[0].splitlines()
    below = [
        module for module in MODULES if 0 <= _place(module) < len([e for e in pure if e[:1] == "r"])
    ]
    waiting = [
        module
        for module in below
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith)
    ]
    assert waiting == []
