"""The stand-in's ledger."""

import anyio

from relay.sandbox.amplitude.ledger import REQUESTS_KEPT, VIOLATIONS_KEPT, Ledger, RequestLine
from relay.sandbox.amplitude.uploads import RawUpload, Upload
from relay.sandbox.common.replies import JsonObject

LINE = RequestLine("/batch", 10, 10, False, "k", 1, status=200, is_stored=True)  # noqa: FBT003
WIRE = RawUpload("POST", "/batch", "application/json", False, 10, b"0123456789")  # noqa: FBT003


def take(ledger: Ledger, *events: JsonObject) -> None:
    """Observe and store events."""
    upload = Upload("/batch", "k", list(events), 5, frozenset())
    ledger.observe(upload, WIRE)
    ledger.store(upload, upload.events, WIRE, 0)


def test_ids_alone_are_kept_on_demand() -> None:
    """A large run keeps insert_ids without events."""
    ledger = Ledger(keep_events=False)
    take(ledger, {"insert_id": "i", "device_id": "d"})
    account = ledger.account("k")
    assert (account.insert_ids, account.events) == (["i"], [])


def test_events_without_insert_id_are_never_repeats() -> None:
    """They cannot be deduplicated, so each counts."""
    ledger = Ledger()
    take(ledger, {"device_id": "d"}, {"device_id": "d"})
    assert ledger.total_events == 2


def test_a_changed_attempt_is_a_violation_even_if_nothing_was_stored() -> None:
    """Every attempt must carry the same bytes."""
    ledger = Ledger()
    for time in (1, 2):
        event: JsonObject = {"insert_id": "i", "device_id": "d", "time": time}
        ledger.observe(Upload("/batch", "k", [event], 5, frozenset()), WIRE)
    assert ledger.violation_counts == {"changed_retry": 1}


def test_another_content_type_is_a_violation() -> None:
    """Amplitude documents application/json."""
    ledger = Ledger()
    raw = RawUpload("POST", "/batch", "text/plain", False, 10, b"")  # noqa: FBT003
    ledger.observe(Upload("/batch", "k", [], 5, frozenset()), raw)
    assert ledger.violation_counts == {"content_type": 1}


def test_logs_are_bounded_and_counts_are_not() -> None:
    """Logs are truncated, counts are not."""
    ledger = Ledger()
    for _ in range(REQUESTS_KEPT + 1):
        ledger.log(LINE)
    event: JsonObject = {"device_id": "d", "ip": "x"}
    take(ledger, *[event] * (VIOLATIONS_KEPT + 1))
    assert (len(ledger.requests), ledger.total_requests) == (REQUESTS_KEPT, REQUESTS_KEPT + 1)
    assert len(ledger.violations) == VIOLATIONS_KEPT
    assert ledger.violation_counts == {"ip": VIOLATIONS_KEPT + 1}


async def test_a_wait_ends_when_its_condition_holds() -> None:
    """Each request wakes the waiter, which checks again."""
    ledger = Ledger()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ledger.wait_until, lambda it: it.total_requests == 2)
            await anyio.lowlevel.checkpoint()
            ledger.log(LINE)
            await anyio.lowlevel.checkpoint()
            ledger.log(LINE)


def test_unused_keys_are_not_shown() -> None:
    """Reading an account does not create one."""
    ledger = Ledger()
    ledger.account("never")
    assert ledger.summary()["accounts"] == {}
