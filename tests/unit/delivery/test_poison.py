"""What a refused event and a refused app look like."""

from relay.delivery.poison import MAX_ALONE, PoisonDetector, Refusal


def test_a_lone_refusal_makes_a_suspect() -> None:
    """Nothing tells yet whether the event or the app is refused."""
    assert PoisonDetector().judge_alone(1, dies_alone=False) is Refusal.WAITS


def test_a_suspect_dies_when_refused_again_after_something_was_taken() -> None:
    """What others pass with is not shut: the event is to blame."""
    refusals = PoisonDetector()
    refusals.judge_alone(1, dies_alone=False)
    refusals.taken()
    assert refusals.is_proven(1)
    assert refusals.judge_alone(1, dies_alone=False) is Refusal.DIES


def test_what_was_taken_before_proves_nothing() -> None:
    """The door may have shut between."""
    refusals = PoisonDetector()
    refusals.taken()
    assert refusals.judge_alone(1, dies_alone=False) is Refusal.WAITS
    assert refusals.judge_alone(1, dies_alone=False) is Refusal.WAITS


def test_a_proof_counts_for_the_events_it_came_after() -> None:
    """One event's proof is none for events first refused after it."""
    refusals = PoisonDetector()
    refusals.judge_alone(1, dies_alone=False)
    refusals.taken()
    assert refusals.judge_alone(2, dies_alone=False) is Refusal.WAITS
    assert refusals.judge_alone(1, dies_alone=False) is Refusal.DIES


def test_a_few_lone_refusals_in_a_row_bring_the_door_in_doubt() -> None:
    """Something taken between starts the row anew."""
    refusals = PoisonDetector()
    fates = [refusals.judge_alone(seq, dies_alone=False) for seq in range(MAX_ALONE + 1)]
    assert fates == [Refusal.WAITS] * MAX_ALONE + [Refusal.DOOR_IN_DOUBT]
    refusals.taken()
    assert refusals.judge_alone(99, dies_alone=False) is Refusal.WAITS


def test_proven_deaths_do_not_count_in_the_row() -> None:
    """However many events of one campaign are refused, they die."""
    refusals = PoisonDetector()
    for seq in range(3):
        refusals.judge_alone(seq, dies_alone=False)
    refusals.taken()
    assert {refusals.judge_alone(seq, dies_alone=False) for seq in range(3)} == {Refusal.DIES}
    assert refusals.judge_alone(99, dies_alone=False) is Refusal.WAITS


def test_an_answer_about_the_request_kills_only_a_few_unproven() -> None:
    """A proxy that answers 404 to everything does not empty the outbox."""
    refusals = PoisonDetector()
    fates = [refusals.judge_alone(seq, dies_alone=True) for seq in range(MAX_ALONE + 1)]
    assert fates == [Refusal.DIES] * MAX_ALONE + [Refusal.DOOR_IN_DOUBT]


def test_refused_events_rest_longer_every_time_until_something_is_taken() -> None:
    """Those of two uploads would take turns for ever if they rested two tries each."""
    refusals = PoisonDetector()
    assert [refusals.shut() for _ in range(3)] == [2, 3, 4]
    refusals.taken()
    assert refusals.shut() == 2
