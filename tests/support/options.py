"""Options of single tests, from the environment: more trials, other seeds, longer runs."""

import os
from typing import Final

given: Final[dict[str, int]] = {}
"""The options that were set; a command that repeats the run must set them too."""


def option(name: str, default: int) -> int:
    """Return the environment variable `name` as a number, or the default if it is not set."""
    text = os.environ.get(name)  # noqa: TID251  # a test's own option
    if text is None:
        return default
    given[name] = int(text)
    return given[name]
