"""Numbers that a test takes from the environment: more trials, other seeds, longer runs."""

import os
from typing import Final

given: Final[dict[str, int]] = {}
"""The options that were set, for whoever wants to repeat the run."""


def option(name: str, default: int) -> int:
    """Return the number that the environment gives under `name`, or the default."""
    text = os.environ.get(name)  # noqa: TID251  # a test's own option
    if text is None:
        return default
    given[name] = int(text)
    return given[name]
