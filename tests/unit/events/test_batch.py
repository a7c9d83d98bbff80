import orjson
import pytest

from relay.errors import PayloadError
from relay.events.batch import IngestBatch
from relay.events.catalog import parse_selection
from relay.events.mapping import MappingPolicy
from relay.events.records import Record
from tests.unit.events.bodies import APP_ID, Body

RECEIVED_AT_MS = 1_767_300_000_000
POLICY = MappingPolicy(APP_ID, parse_selection("all"), "seed", "device", "relay/1.2.3")


def event(name: str, **changes: object) -> Body:
    """Return a click of a user of the same name."""
    return {
        "event": {"kind": "message.push.clicked", "id": name, "external_id": name, **changes},
    }


def processed(*elements: object, forgotten: str = "", size: int = 100) -> IngestBatch:
    """Return a batch of these elements, read and mapped."""
    batch = IngestBatch.parse(1, RECEIVED_AT_MS, orjson.dumps(elements))
    for part in batch.parts(size):
        batch.read(part)
        batch.map(part, POLICY, lambda named: bool(forgotten) and forgotten in str(named))
    return batch


def ids(batch: IngestBatch) -> list[str]:
    """Return the insert ids of the events that are mapped."""
    return [mapped.insert_id for mapped in batch.events]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_quarantined_elements_keep_their_order_whatever_step_refused_them(size: int) -> None:
    """An operator reads the quarantine of a body from top to bottom."""
    batch = processed(
        event("a"),
        event("b", app_id="another"),
        "text",
        event("c"),
        event("d", kind="message.push.dreamt"),
        size=size,
    )
    reasons = [body.reason for body in batch.quarantined]
    assert reasons == ["foreign_app", "not_an_object", "unknown_kind"]
    assert (ids(batch), batch.users) == (["a", "c"], ["a", "c"])


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (4, [2, 2]), (5, [2, 2, 1])])
def test_parts_cover_every_element_once(count: int, sizes: list[int]) -> None:
    """No element is left out where a part ends."""
    batch = IngestBatch.parse(1, RECEIVED_AT_MS, orjson.dumps([event("a")] * count))
    parts = batch.parts(2)
    assert [len(part) for part in parts] == sizes
    assert [place for part in parts for place in part] == list(range(count))


def test_a_body_that_is_one_event_is_quarantined_as_its_own_bytes() -> None:
    """Spaces, order of names and numbers stay what the sender wrote."""
    raw = b' {"event": {"kind": "none",  "n": 1.0}} '
    batch = IngestBatch.parse(1, RECEIVED_AT_MS, raw)
    batch.read(range(1))
    batch.map(range(1), POLICY, lambda _: False)
    assert [body.body for body in batch.quarantined] == [raw]


def test_an_error_is_not_kept_once_its_element_is_quarantined() -> None:
    """An exception keeps its call stack, and a body may have a million of them."""
    batch = processed("text", event("a"))
    assert [isinstance(record, Record) for record in batch.records] == [False, True]
    assert not any(isinstance(record, PayloadError) for record in batch.records)


def test_invalid_elements_of_an_erased_user_are_filtered_not_quarantined() -> None:
    """The quarantine would keep the id."""
    batch = processed(
        {"who": "anna"}, event("anna", app_id="another"), "ben", event("anna"), forgotten="anna"
    )
    assert (batch.filtered, [body.body for body in batch.quarantined]) == (2, [b'"ben"'])
    assert ids(batch) == ["anna"]  # dropped last, when the batch is appended


def test_dropped_users_leave_neither_event_nor_record() -> None:
    """An event is filtered once, and the directory does not observe it."""
    batch = processed(event("a"), event("anna"), event("b"), "text")
    batch.drop_users(lambda user: user == "anna")
    users = [record.external_id for record in batch.records if isinstance(record, Record)]
    assert (ids(batch), batch.users, users) == (["a", "b"], ["a", "b"], ["a", "b"])
    assert batch.filtered == 1
