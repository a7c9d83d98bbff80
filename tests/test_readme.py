"""The README says what is so."""

import re
from pathlib import Path

import pytest

from relay.cli.main import COMMANDS
from relay.settings import describe_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


PACKAGES = "http|ingest|outbox|delivery|amplitude|cohorts|segments|database|daemon|settings"


@pytest.mark.parametrize(
    "document",
    ["README.md", "tests/README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md"],
)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    """A map with rooms that are gone sends a newcomer astray."""
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:relay|tests|systemd|\.ci|\.github)/[\w./-]+)`", text))
    named |= {
        f"relay/{name}.py"
        for name in re.findall(rf"^ .*?\b((?:{PACKAGES})/[\w/]+)", text, re.MULTILINE)
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("record", sorted((ROOT / ".github/decisions").glob("0*.md")), ids=str)
def test_every_decision_is_listed(record: Path) -> None:
    """The index of the decisions has all of them."""
    index = (record.parent / "README.md").read_text(encoding="utf-8")
    title = record.read_text(encoding="utf-8").splitlines()[0].split(". ", maxsplit=1)[1]
    assert f"({record.name}) | {title} |" in index


def test_each_question_is_answered_by_at_most_three_files() -> None:
    """A rule that is spread over more rooms is a rule that nobody finds."""
    text = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
    answers = re.findall(r"^\| [^|]*\? \| (.*) \|$", text, re.MULTILINE)
    assert len(answers) == 6
    assert all(1 <= answer.count("`relay/") <= 3 for answer in answers)
