"""The front of an app's line, case by case."""

from relay.delivery.batching import BatchLimits
from relay.delivery.window import MAX_PARKED, Window, holds_of
from relay.outbox.claims import Waiting
from tests.support.outboxes import pending_event as _event

ROOMY = BatchLimits(max_events=100, max_bytes=1_000_000, overhead_bytes=10)


def _window(*events: Waiting) -> Window:
    window = Window()
    window.add(events, events[-1].seq)
    return window


def _take(window: Window, limits: BatchLimits) -> list[Waiting]:
    chosen = window.choose(limits, 0.0)
    window.take(chosen)
    return chosen


def _seqs(events: list[Waiting]) -> list[int]:
    return [event.seq for event in events]


def test_an_event_rests_with_its_device_and_with_its_user() -> None:
    """A hold of either concerns it."""
    assert holds_of(_event(1, "x", "y")) == ("d:x", "u:y")


def test_a_device_and_a_user_of_one_name_are_two_lanes() -> None:
    """An id names a device or a user, never both."""
    window = _window(_event(1, "same"), _event(2, None, "same"))
    _take(window, BatchLimits(1, 100, 0))
    assert _seqs(_take(window, ROOMY)) == [2]


def test_take_stops_at_the_limits_and_leaves_the_rest_in_order() -> None:
    """What does not fit stays first in line."""
    window = _window(*(_event(seq, f"d{seq}") for seq in range(1, 6)))
    assert _seqs(_take(window, BatchLimits(2, 1000, 0))) == [1, 2]
    assert _seqs(_take(window, BatchLimits(9, 21, 0))) == [3, 4]
    assert window.ready_count == 1


def test_an_event_larger_than_an_upload_goes_alone() -> None:
    """A limit never keeps an event for ever."""
    window = _window(_event(1, "a", size_bytes=5000), _event(2, "b"))
    assert _seqs(_take(window, BatchLimits(10, 100, 10))) == [1]
    assert _seqs(_take(window, BatchLimits(10, 100, 10))) == [2]


def test_a_lane_in_hand_waits_until_the_last_of_it_is_released() -> None:
    """Half a lane settled is still a lane in hand."""
    window = _window(_event(1), _event(2), _event(3))
    first = _take(window, BatchLimits(2, 100, 0))
    window.release(first[:1])
    assert _take(window, ROOMY) == []
    assert window.revive(10) == []
    window.release(first[1:])
    assert window.revive(10) == [3]


def test_events_read_back_go_before_younger_ones() -> None:
    """Age decides again once a lane may go."""
    window = _window(_event(1, "a"), _event(2, "a"), _event(3, "b"))
    taken = _take(window, BatchLimits(1, 100, 0))
    assert _seqs(_take(window, BatchLimits(1, 100, 0))) == [3]
    window.add([_event(4, "c")], 4)
    window.release(taken)
    assert window.revive(10) == [2]
    window.add_revived([_event(2, "a")])
    assert _seqs(_take(window, ROOMY)) == [2, 4]


def test_a_held_user_stops_its_events_on_every_device() -> None:
    """A pause of a user concerns all lanes it has events in."""
    window = _window(_event(1, "a", "ann"), _event(2, "b", "ann"), _event(3, "c", "bob"))
    taken = _take(window, BatchLimits(1, 100, 0))
    window.put_back(taken)
    window.hold(["u:ann"], ["d:a"], until_s=30.0)
    window.release(taken)
    assert _seqs(_take(window, ROOMY)) == [3]
    window.expire_holds(29.9)
    assert window.revive(10) == []
    window.expire_holds(30.0)
    assert sorted(window.revive(10)) == [1, 2]


def test_the_latest_of_several_holds_counts() -> None:
    """A second pause never shortens the first."""
    window = _window(_event(1))
    window.put_back(_take(window, ROOMY))
    window.release([_event(1)])
    window.hold(["d:d"], ["d:d"], until_s=50.0)
    window.hold(["d:d"], ["d:d"], until_s=20.0)
    assert window.next_expiry_s == 50.0


def test_a_lane_under_two_holds_is_not_read_back_when_the_first_ends() -> None:
    """A lane comes back only when it may go; else it would be read over and over."""
    window = _window(_event(1, "a", "ann"))
    taken = _take(window, ROOMY)
    window.put_back(taken)
    window.hold(["d:a"], ["d:a"], until_s=10.0)
    window.hold(["u:ann"], ["d:a"], until_s=20.0)
    window.release(taken)
    window.expire_holds(10.0)
    assert window.revive(10) == []
    window.expire_holds(20.0)
    assert window.revive(10) == [1]


def test_a_lane_that_is_held_again_before_it_went_is_read_back_once() -> None:
    """A lane that waits for its turn and is then held waits for the end of the hold."""
    window = _window(_event(1, "a", "ann"), _event(2, "a", "ann"), _event(3, "b", "ann"))
    first = _take(window, BatchLimits(1, 100, 0))
    assert window.choose(BatchLimits(1, 100, 0), 0.0) == [_event(3, "b", "ann")]
    window.release(first)
    second = _take(window, BatchLimits(1, 100, 0))
    window.put_back(second)
    window.hold(["u:ann"], ["d:b"], until_s=10.0)
    window.release(second)
    reads = 0
    while seqs := window.revive(10):
        window.add_revived([_event(seq, "a", "ann") for seq in seqs])
        assert _take(window, ROOMY) == []
        reads += 1
        assert reads < 3


def test_much_that_is_parked_stops_reading_ahead() -> None:
    """Memory stays flat however long the line of a held device is."""
    window = _window(_event(1))
    _take(window, ROOMY)
    window.add((_event(seq) for seq in range(2, MAX_PARKED + 3)), MAX_PARKED + 2)
    assert _take(window, ROOMY) == []
    assert not window.wants(1000)
