"""Everything that parses outside bytes, by the name under which it is fuzzed.

A target takes any bytes and raises if they break a promise; `corpus/NAME/` holds seeds,
and inputs that once broke one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Final

from tests.fuzz.admin_requests import check_path, check_question
from tests.fuzz.answers import check_answers, check_headers, check_upload
from tests.fuzz.events import check_events, check_shapes
from tests.fuzz.files import check_export, check_gzip, check_members
from tests.fuzz.messages import check_message
from tests.fuzz.settings_files import check_settings
from tests.fuzz.uploads import check_own_upload

CORPUS: Final = Path(__file__).parent / "corpus"

MAX_SECONDS: Final = 1.0
"""Processor time per input of usual size; other load on the machine does not count."""


@dataclass(frozen=True)
class Target:
    """A parser with its promises.

    Attributes:
        check: Raises if these bytes break a promise.
        is_json: Whether to mutate documents rather than bytes.
        max_bytes: Size limit of inputs; a settings file is written by hand.
    """

    check: Callable[[bytes], None]
    is_json: bool = False
    max_bytes: int = 65_536


TARGETS: Final = {
    "events": Target(check_events, is_json=True),
    "shapes": Target(check_shapes, is_json=True),
    "message": Target(check_message, is_json=True),
    "own_upload": Target(check_own_upload, is_json=True),
    "upload_answer": Target(check_upload, is_json=True),
    "answers": Target(check_answers, is_json=True),
    "question": Target(check_question, is_json=True),
    "members": Target(check_members),
    "export": Target(check_export),
    "gzip": Target(check_gzip),
    "headers": Target(check_headers),
    "settings": Target(check_settings, max_bytes=2_048),
    "path": Target(check_path),
}


def run(name: str, data: bytes) -> None:
    """Check a target with some bytes.

    Raises:
        AssertionError: If a promise is broken, or if it takes too long.
    """
    began_s = process_time()
    target = TARGETS[name]
    target.check(data)
    took_s = process_time() - began_s
    assert took_s < MAX_SECONDS or len(data) > target.max_bytes, f"it takes {took_s:.1f} s"


def seeds(name: str) -> Iterator[Path]:
    """Yield the files of a target's corpus."""
    yield from sorted(path for path in (CORPUS / name).iterdir() if path.is_file())
