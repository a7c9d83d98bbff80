"""One container for all tests of the unit."""

from collections.abc import Iterator

import pytest

from tests.systemd.machine import Machine, alone, booted, build_root


@pytest.fixture(scope="session")
def machine(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """Boot a small Debian; it is built once per checkout, which takes a minute."""
    assert pytestconfig.cache is not None
    root = pytestconfig.cache.mkdir("systemd") / "root"
    with alone():
        if not root.exists():
            build_root(root)
        with booted(root, tmp_path_factory.mktemp("container")) as machine:
            yield machine
