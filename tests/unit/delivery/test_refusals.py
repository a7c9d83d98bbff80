"""What a refused event and a refused app look like."""

from relay.delivery.refusals import MAX_ALONE, MAX_UNPROVEN, Refusal, Refusals


def test_a_lone_refusal_without_proof_waits() -> None:
    """Nothing tells yet whether the event or the app is refused."""
    assert Refusals().judge_alone(1, 10.0, dies_alone=False) is Refusal.WAITS


def test_an_upload_taken_since_is_the_proof() -> None:
    """What others pass with is not shut: the event is to blame."""
    refusals = Refusals()
    refusals.taken(11.0)
    assert refusals.judge_alone(1, 10.0, dies_alone=False) is Refusal.DIES


def test_an_upload_taken_before_proves_nothing() -> None:
    """The door may have shut between."""
    refusals = Refusals()
    refusals.taken(9.0)
    assert refusals.judge_alone(1, 10.0, dies_alone=False) is Refusal.WAITS


def test_a_proof_counts_for_the_event_it_was_about() -> None:
    """One event's proof is none for events first refused after it."""
    refusals = Refusals()
    refusals.taken(11.0)
    assert refusals.judge_alone(1, 10.0, dies_alone=False) is Refusal.DIES
    assert refusals.judge_alone(2, 12.0, dies_alone=False) is Refusal.WAITS


def test_a_suspect_is_remembered_over_claims() -> None:
    """An event that halted its app dies once others were taken, however much later."""
    refusals = Refusals()
    assert refusals.judge_alone(1, 10.0, dies_alone=False) is Refusal.WAITS
    refusals.taken(400.0)
    assert refusals.judge_alone(1, 500.0, dies_alone=False) is Refusal.DIES
    assert refusals.judge_alone(1, 600.0, dies_alone=False) is Refusal.WAITS


def test_a_few_lone_refusals_in_a_row_halt_the_app() -> None:
    """Without a success between, it is the app that is refused."""
    refusals = Refusals()
    fates = [refusals.judge_alone(seq, 10.0, dies_alone=False) for seq in range(MAX_UNPROVEN + 1)]
    assert fates == [Refusal.WAITS] * MAX_UNPROVEN + [Refusal.HALTS]


def test_an_answer_about_the_request_kills_only_a_few_unproven() -> None:
    """A proxy that answers 404 to everything does not empty the outbox."""
    refusals = Refusals()
    fates = [refusals.judge_alone(seq, 10.0, dies_alone=True) for seq in range(MAX_UNPROVEN + 1)]
    assert fates == [Refusal.DIES] * MAX_UNPROVEN + [Refusal.HALTS]


def test_a_long_row_halts_even_with_proof() -> None:
    """The door may have shut since the proof; a success between starts the row anew."""
    refusals = Refusals()
    refusals.taken(11.0)
    fates = [refusals.judge_alone(seq, 10.0, dies_alone=False) for seq in range(MAX_ALONE + 1)]
    assert fates == [Refusal.DIES] * MAX_ALONE + [Refusal.HALTS]
    refusals.taken(12.0)
    assert refusals.judge_alone(99, 10.0, dies_alone=False) is Refusal.DIES
