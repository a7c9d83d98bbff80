"""The front of an app's line, case by case."""

from relay.delivery.batching import BatchLimits
from relay.delivery.ordering import MAX_DEFERRED, OrderedScheduler, hold_names
from relay.outbox.claims import Waiting
from tests.support.outboxes import pending_event as _event

ROOMY = BatchLimits(max_events=100, max_bytes=1_000_000, overhead_bytes=10)


def _scheduler(*events: Waiting) -> OrderedScheduler:
    scheduler = OrderedScheduler()
    scheduler.add(events, events[-1].seq)
    return scheduler


def _take(scheduler: OrderedScheduler, limits: BatchLimits) -> list[Waiting]:
    chosen = scheduler.choose(limits, 0.0)
    scheduler.start(chosen)
    return chosen


def _seqs(events: list[Waiting]) -> list[int]:
    return [event.seq for event in events]


def test_an_event_rests_with_its_device_and_with_its_user() -> None:
    """A hold of either concerns it."""
    assert hold_names(_event(1, "x", "y")) == ("d:x", "u:y")


def test_a_device_and_a_user_of_one_name_are_two_lanes() -> None:
    """An id names a device or a user, never both."""
    scheduler = _scheduler(_event(1, "same"), _event(2, None, "same"))
    _take(scheduler, BatchLimits(1, 100, 0))
    assert _seqs(_take(scheduler, ROOMY)) == [2]


def test_take_stops_at_the_limits_and_leaves_the_rest_in_order() -> None:
    """What does not fit stays first in line."""
    scheduler = _scheduler(*(_event(seq, f"d{seq}") for seq in range(1, 6)))
    assert _seqs(_take(scheduler, BatchLimits(2, 1000, 0))) == [1, 2]
    assert _seqs(_take(scheduler, BatchLimits(9, 21, 0))) == [3, 4]
    assert scheduler.ready_count == 1


def test_an_event_larger_than_an_upload_goes_alone() -> None:
    """A limit never keeps an event for ever."""
    scheduler = _scheduler(_event(1, "a", size_bytes=5000), _event(2, "b"))
    assert _seqs(_take(scheduler, BatchLimits(10, 100, 10))) == [1]
    assert _seqs(_take(scheduler, BatchLimits(10, 100, 10))) == [2]


def test_a_lane_in_hand_waits_until_the_last_of_it_is_released() -> None:
    """Half a key settled is still a key in flight."""
    scheduler = _scheduler(_event(1), _event(2), _event(3))
    first = _take(scheduler, BatchLimits(2, 100, 0))
    scheduler.release(first[:1])
    assert _take(scheduler, ROOMY) == []
    assert scheduler.resume(10) == []
    scheduler.release(first[1:])
    assert scheduler.resume(10) == [3]


def test_events_read_back_go_before_younger_ones() -> None:
    """Age decides again once a key may go."""
    scheduler = _scheduler(_event(1, "a"), _event(2, "a"), _event(3, "b"))
    taken = _take(scheduler, BatchLimits(1, 100, 0))
    assert _seqs(_take(scheduler, BatchLimits(1, 100, 0))) == [3]
    scheduler.add([_event(4, "c")], 4)
    scheduler.release(taken)
    assert scheduler.resume(10) == [2]
    scheduler.add_resumed([_event(2, "a")])
    assert _seqs(_take(scheduler, ROOMY)) == [2, 4]


def test_a_held_user_stops_its_events_on_every_device() -> None:
    """A pause of a user concerns all keys it has events in."""
    scheduler = _scheduler(_event(1, "a", "ann"), _event(2, "b", "ann"), _event(3, "c", "bob"))
    taken = _take(scheduler, BatchLimits(1, 100, 0))
    scheduler.defer(taken)
    scheduler.hold(["u:ann"], ["d:a"], until_s=30.0)
    scheduler.release(taken)
    assert _seqs(_take(scheduler, ROOMY)) == [3]
    scheduler.expire_holds(29.9)
    assert scheduler.resume(10) == []
    scheduler.expire_holds(30.0)
    assert sorted(scheduler.resume(10)) == [1, 2]


def test_the_latest_of_several_holds_counts() -> None:
    """A second pause never shortens the first."""
    scheduler = _scheduler(_event(1))
    scheduler.defer(_take(scheduler, ROOMY))
    scheduler.release([_event(1)])
    scheduler.hold(["d:d"], ["d:d"], until_s=50.0)
    scheduler.hold(["d:d"], ["d:d"], until_s=20.0)
    assert scheduler.next_expiry_s == 50.0


def test_a_lane_under_two_holds_is_not_read_back_when_the_first_ends() -> None:
    """A key comes back only when it may go; else it would be read over and over."""
    scheduler = _scheduler(_event(1, "a", "ann"))
    taken = _take(scheduler, ROOMY)
    scheduler.defer(taken)
    scheduler.hold(["d:a"], ["d:a"], until_s=10.0)
    scheduler.hold(["u:ann"], ["d:a"], until_s=20.0)
    scheduler.release(taken)
    scheduler.expire_holds(10.0)
    assert scheduler.resume(10) == []
    scheduler.expire_holds(20.0)
    assert scheduler.resume(10) == [1]


def test_a_lane_that_is_held_again_before_it_went_is_read_back_once() -> None:
    """A key that waits for its turn and is then held waits for the end of the hold."""
    scheduler = _scheduler(_event(1, "a", "ann"), _event(2, "a", "ann"), _event(3, "b", "ann"))
    first = _take(scheduler, BatchLimits(1, 100, 0))
    assert scheduler.choose(BatchLimits(1, 100, 0), 0.0) == [_event(3, "b", "ann")]
    scheduler.release(first)
    second = _take(scheduler, BatchLimits(1, 100, 0))
    scheduler.defer(second)
    scheduler.hold(["u:ann"], ["d:b"], until_s=10.0)
    scheduler.release(second)
    reads = 0
    while seqs := scheduler.resume(10):
        scheduler.add_resumed([_event(seq, "a", "ann") for seq in seqs])
        assert _take(scheduler, ROOMY) == []
        reads += 1
        assert reads < 3


def test_much_that_is_deferred_stops_reading_ahead() -> None:
    """Memory stays flat however long the line of a held device is."""
    scheduler = _scheduler(_event(1))
    _take(scheduler, ROOMY)
    scheduler.add((_event(seq) for seq in range(2, MAX_DEFERRED + 3)), MAX_DEFERRED + 2)
    assert _take(scheduler, ROOMY) == []
    assert not scheduler.wants(1000)
