"""One idea has one word: names and phrases that were given up do not come back.

`vocabulary.txt` is a dictionary of codespell's, which finds its words in prose. Here they are
found inside names too (`PulseReport`, `pulse_report`), and so are phrases.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
DICTIONARY: Final = ROOT / "tests" / "vocabulary.txt"
WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

PHRASES: Final = {
    "as it came": "unchanged",
    "has its turn": "is next",
    "is there for": "serves",
    "is told of": "learns of, receives",
    "so many": "the number itself",
    "what became of": "the result of",
    "whoever": "a client, a caller, an operator",
}

BANNED: Final = dict(line.split("->") for line in DICTIONARY.read_text().splitlines())


def old_words(text: str) -> set[str]:
    """Return the words and phrases of a text that were given up."""
    words = {word.lower() for word in WORD.findall(text)} & BANNED.keys()
    flat = re.sub(r"\W+", " ", text.lower())
    return words | {phrase for phrase in PHRASES if re.search(rf"\b{phrase}\b", flat)}


def _sources() -> Iterator[tuple[str, str]]:
    for suffix in ("py", "sql", "md"):
        for folder in ("relay", ".github", "tests"):
            for file in sorted((ROOT / folder).rglob(f"*.{suffix}")):
                if file != Path(__file__):
                    yield str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")
    yield "README.md", (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_uses_a_word_that_was_given_up() -> None:
    """The glossary in CONTRIBUTING.md names the word to use instead."""
    assert [f"{name}: {word}" for name, text in _sources() for word in old_words(text)] == []


@pytest.mark.parametrize(
    "text",
    ["class PulseRate:", "pulse_rate()", "a PULSE", "Whoever calls", "it has its\n    turn"],
)
def test_an_old_word_is_found_in_names_and_across_lines(text: str) -> None:
    """Otherwise the test above would prove little."""
    assert old_words(text)


@pytest.mark.parametrize("text", ["impulse", "pulses()", "delegate", "so manyfold"])
def test_a_part_of_a_longer_word_is_another_word(text: str) -> None:
    """Letters in a row are not a word."""
    assert old_words(text) == set()
