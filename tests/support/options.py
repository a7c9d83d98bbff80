"""Numbers that tests take from the environment: more cases, other seeds, longer runs."""

import os
from typing import Final

given: Final[dict[str, int]] = {}
"""The options that were set; a command that repeats the run must set them too."""


def option(name: str, default: int) -> int:
    """Return the number in the environment variable `name`, or the default."""
    text = os.environ.get(name)  # noqa: TID251  # a test's own option
    if text is None:
        return default
    given[name] = int(text)
    return given[name]
