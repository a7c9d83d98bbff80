"""Upload requests before their events are checked."""

import orjson
import pytest

from relay.sandbox.amplitude.uploads import RawUpload, Upload, parse_upload
from relay.sandbox.common.replies import Answer


def parse(body: object, *, path: str = "/2/httpapi") -> Upload | Answer:
    """Parse a body for a service that knows the key `k`."""
    plain = orjson.dumps(body)
    raw = RawUpload("POST", path, "application/json", False, len(plain), plain)  # noqa: FBT003
    return parse_upload(raw, lambda key: key == "k")


@pytest.mark.parametrize(
    ("options", "length"),
    [(None, 5), ({}, 5), ({"min_id_length": None}, 5), ({"min_id_length": 1}, 1)],
)
def test_min_id_length_is_read(options: object, length: int) -> None:
    """Five, unless the request says otherwise."""
    upload = parse({"api_key": "k", "events": [{}], "options": options})
    assert isinstance(upload, Upload)
    assert upload.min_id_length == length


@pytest.mark.parametrize("options", [[], "x", {"min_id_length": "1"}, {"min_id_length": -1}])
def test_nonsense_options_are_rejected(options: object) -> None:
    """Implausible options are a 400."""
    answer = parse({"api_key": "k", "events": [{}], "options": options})
    assert isinstance(answer, Answer)
    assert answer.status == 400


@pytest.mark.parametrize("api_key", [7, ["k"], "K"])
def test_keys_of_another_type_are_unknown(api_key: object) -> None:
    """A key of another type is an unknown key."""
    answer = parse({"api_key": api_key, "events": [{}]})
    assert isinstance(answer, Answer)
    assert orjson.loads(answer.body)["error"] == f"Invalid API key: {api_key}"


def test_size_is_judged_before_the_key() -> None:
    """A request that is too large is not parsed."""
    answer = parse({"api_key": "x", "events": [{}] * 2001}, path="/batch")
    assert isinstance(answer, Answer)
    assert answer.status == 413


def test_further_keys_are_tolerated_and_known() -> None:
    """Official SDKs send more than the documents list."""
    upload = parse({"api_key": "k", "events": [{}], "client_upload_time": "now"})
    assert isinstance(upload, Upload)
    assert upload.top_level_keys == {"client_upload_time"}
