"""Parses `strace -f -y` output: every call, in the order in which calls begin and end.

Pure. A call that another thread overtakes is written in two parts.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_BEGUN: Final = re.compile(r"(?:\[pid +)?(?P<pid>\d+)?\]? *(?P<name>\w+)\((?P<text>.*)", re.DOTALL)
_RESUMED: Final = re.compile(
    r"(?:\[pid +)?(?P<pid>\d+)?\]? *<\.\.\. (?P<name>\w+) resumed>(?P<text>.*)", re.DOTALL
)
_FILE: Final = re.compile(r"\d+<[^>]*>")
_UNFINISHED: Final = "<unfinished ...>"
_RETURNED: Final = re.compile(r"\) += +(-?\d+)[^\"=]*$")


@dataclass(slots=True)
class Call:
    """A system call.

    Attributes:
        pid: The thread.
        name: The call.
        file: Its first argument if that is an open file, as number and name.
        text: Its arguments as printed.
        result: What it returned; None while it runs or if it never returned.
    """

    pid: str
    name: str
    file: str
    text: str
    result: int | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A call begins."""

    call: Call


@dataclass(frozen=True, slots=True)
class Ended:
    """A call ends."""

    call: Call


def follow(lines: Iterable[str]) -> Iterator[Begun | Ended]:
    """Yield the start and the end of each call, skipping other lines."""
    running: dict[str, Call] = {}
    for line in lines:
        if resumed := _RESUMED.match(line):
            call = running.pop(resumed["pid"] or "", None)
            if call is not None:
                call.text += resumed["text"]
                yield _ended(call)
        elif begun := _BEGUN.match(line):
            file = _FILE.match(begun["text"])
            call = Call(begun["pid"] or "", begun["name"], file[0] if file else "", begun["text"])
            yield Begun(call)
            if line.rstrip().endswith(_UNFINISHED):
                call.text = call.text.rstrip().removesuffix(_UNFINISHED)
                running[call.pid] = call
            else:
                yield _ended(call)


def _ended(call: Call) -> Ended:
    returned = _RETURNED.search(call.text)
    call.result = int(returned[1]) if returned else None
    return Ended(call)
