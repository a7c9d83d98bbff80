"""The admin API against its own document, with requests that it allows and that it forbids."""

import subprocess
import sys
from pathlib import Path

import anyio
import orjson
import pytest

from tests.fuzz.populated import ADMIN_TOKEN, USERS, populated_relay
from tests.support.options import option
from tests.support.relays import COHORT, Relay

pytestmark = pytest.mark.slow

EXAMPLES = option("API_FUZZ_EXAMPLES", 30)
SEED = option("API_FUZZ_SEED", 1)
DEADLINE_S = 60 + 2 * EXAMPLES
REQUEST_TIMEOUT_S = 10

RUN = "from schemathesis.cli import schemathesis; schemathesis()"

# Most requests name things that exist, the others do not. What the document cannot
# say of a body is no breach: which files are exports, and that subscriptions are unique. The
# path of the two actions is also that of a user of that name.
CONFIG = """
[dictionaries]
apps = {{ values = ["shop"] }}
cohorts = {{ values = [{cohort}] }}
runs = {{ values = {runs} }}
users = {{ values = {users} }}

[parameters]
"path.app" = {{ dictionary = "apps", probability = 0.9 }}
"path.cohort_id" = {{ dictionary = "cohorts", probability = 0.8 }}
"path.run_id" = {{ dictionary = "runs", probability = 0.8 }}
"path.external_id" = {{ dictionary = "users", probability = 0.6 }}

[[operations]]
include-operation-id = ["post_directory_app_import", "post_directory_app_sync"]
checks.positive_data_acceptance.enabled = false
checks.allow_header_conformance.enabled = false

[[operations]]
include-operation-id = "put_directory_app_external_id"
checks.positive_data_acceptance.enabled = false
"""


async def test_the_admin_api_does_what_its_document_says(tmp_path: Path) -> None:
    """No 5xx, no undocumented response, nothing forbidden accepted, nothing without the token."""
    async with populated_relay(tmp_path / "data") as relay:
        config = tmp_path / "schemathesis.toml"
        config.write_text(await _configure(relay), encoding="utf-8")
        with anyio.fail_after(DEADLINE_S):
            ended = await anyio.run_process(
                _command(relay, config), check=False, cwd=tmp_path, stderr=subprocess.STDOUT
            )
        report = ended.stdout.decode()
        assert ended.returncode == 0, report
        assert f"Tested: {await _count_operations(relay)}" in report, report
        assert (await relay.api("GET", "/status")).status == 200


async def _count_operations(relay: Relay) -> int:
    paths = (await relay.api("GET", "/openapi.json")).json["paths"]
    return sum(len(operations) for operations in paths.values())


async def _configure(relay: Relay) -> str:
    runs = (await relay.api("GET", "/cohort-runs")).json["items"]
    return CONFIG.format(
        cohort=f'"{COHORT}"',
        runs=[str(run["run_id"]) for run in runs],
        users=orjson.dumps(USERS).decode(),
    )


def _command(relay: Relay, config: Path) -> list[str]:
    return [
        *(sys.executable, "-c", RUN, "--config-file", str(config)),
        *("run", f"{relay.admin}/api/v1/openapi.json", "--no-color"),
        *("--header", f"Authorization: Bearer {ADMIN_TOKEN}"),
        *("--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        *("--request-timeout", str(REQUEST_TIMEOUT_S)),
    ]
