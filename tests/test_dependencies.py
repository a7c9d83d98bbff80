"""No pinned dependency is known to be vulnerable, as far as this table knows.

The table replaces an advisory service where none is reachable; `pip-audit --strict` asks one
(without `--strict` it passes without an answer). An advisory adds or raises a line here, and
so an older pin is found without a network.

Source: PyPA advisory database (as of 2024-10, every pin), osv.dev and the projects' own advisories
(2026-11).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCK: Final = Path(__file__).parents[1] / "requirements.lock"

SOUND_SINCE: Final[Mapping[str, tuple[str, str]]] = {
    "aiohttp": ("3.14.4", "PYSEC-2026-4371"),
    "idna": ("3.15", "CVE-2026-45409"),
    "markdown-it-py": ("2.2.0", "PYSEC-2023-23"),
    "orjson": ("3.9.15", "PYSEC-2024-40"),
    "psutil": ("5.6.6", "PYSEC-2019-41"),
    "pydantic": ("2.4.0", "CVE-2024-3772"),
    "pydantic-settings": ("2.14.2", "GHSA-4xgf-cpjx-pc3j"),
    "pygments": ("2.20.0", "CVE-2026-4539"),
    "pytest": ("9.0.3", "CVE-2025-71176"),
    "pyyaml": ("5.4", "PYSEC-2021-142"),
}
"""The first release without the newest known fault, and the advisory about that fault."""

_PIN: Final = re.compile(
    r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==(\S+)((?: \\\n +--hash=sha256:\w{64})*)", re.MULTILINE
)


def faults(lock: str) -> list[str]:
    """Return the known vulnerabilities of a lock file's pins."""
    pins = {canonicalize_name(name): Version(version) for name, version, _ in _PIN.findall(lock)}
    return [
        f"{name} {pins[canonicalize_name(name)]}: {advisory}, sound since {version}"
        for name, (version, advisory) in SOUND_SINCE.items()
        if name in pins and pins[canonicalize_name(name)] < Version(version)
    ]


def test_no_pin_is_known_to_be_vulnerable() -> None:
    """The pinned packages serve the public door."""
    assert faults(LOCK.read_text()) == []


@pytest.mark.parametrize("name", SOUND_SINCE)
def test_an_older_pin_would_be_found(name: str) -> None:
    """Each line of the table is about an existing pin and detects an older one."""
    pin = rf"(?m)^({name}(?:\[[^]]*])?)==\S+"
    older, times = re.subn(pin, r"\1==0.1", LOCK.read_text())
    assert times == 1
    assert [fault.split()[0] for fault in faults(older)] == [name]


def test_every_pin_has_its_hash_and_comes_from_the_index() -> None:
    """Other content, or another source, was not tested."""
    lock = LOCK.read_text()
    pins = _PIN.findall(lock)
    starts = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert len(pins) == len(starts)
    assert [name for name, _, hashes in pins if not hashes] == []
    assert not re.search(r"(?m)^\s*(-|file:|\./|/)(?!-hash)", lock)
