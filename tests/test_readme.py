"""The README says what is so."""

import re
from pathlib import Path

from relay.cli.main import COMMANDS
from relay.settings import describe_settings

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_first_two_shell_blocks_are_one_command_each() -> None:
    """The first runs the demo, the second the tests, on a bare machine."""
    demo, tests = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)[:2]
    assert demo.count("\n") == tests.count("\n") == 1
    assert demo.rstrip().endswith("relay demo")
    assert tests.rstrip().endswith("pytest")


def test_the_table_of_settings_is_the_settings() -> None:
    """Every variable with its default and meaning, in their order, and no other."""
    rows = re.findall(r"^\| `(RELAY_[A-Z_<>]+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    settings = describe_settings()
    assert rows == [(each.variable, each.default, each.meaning) for each in settings]


def test_every_command_is_mentioned() -> None:
    """A command nobody reads of is a command nobody has."""
    for command in COMMANDS:
        assert f"relay {command}" in README


def test_every_reason_of_death_is_explained() -> None:
    """The reasons in the code and those in the table are the same."""
    sources = Path(__file__).parent.parent / "relay"
    text = "".join(
        (sources / name).read_text(encoding="utf-8")
        for name in ("amplitude/judge.py", "delivery/worker.py")
        if (sources / name).exists()
    )
    reasons = set(
        re.findall(r'(?:Dead|Split|Forbidden|DeadLettered)\(\s*(?:event, )?"(\w+)"', text)
    )
    reasons |= set(re.findall(r'"events_with_\w+": "(\w+)"', text))
    assert reasons
    for reason in reasons:
        assert f"`{reason}`" in README
