"""An event that is refused, or an app that is."""

from relay.delivery.refusals import EPISODE_S, MAX_ALONE, MAX_UNPROVEN, Refusal, Refusals


def test_a_lone_refusal_without_proof_waits() -> None:
    """Nothing dies of a door that may be shut for everybody."""
    refusals = Refusals()
    refusals.refused(0.0)
    assert refusals.judge_alone(1, 0.0, dies_alone=False) is Refusal.WAITS


def test_a_lone_refusal_dies_once_another_upload_was_taken_since() -> None:
    """A success after the first refusal proves that the door is open."""
    refusals = Refusals()
    refusals.refused(0.0)
    refusals.taken(1.0)
    refusals.refused(2.0)
    assert refusals.judge_alone(1, 0.0, dies_alone=False) is Refusal.DIES


def test_a_success_before_the_first_refusal_proves_nothing() -> None:
    """The door may have shut in between."""
    refusals = Refusals()
    refusals.taken(0.0)
    refusals.refused(1.0)
    assert refusals.judge_alone(1, 0.0, dies_alone=False) is Refusal.WAITS


def test_refusals_without_any_success_halt_the_app() -> None:
    """A few lone events are enough to see that everything is refused."""
    refusals = Refusals()
    for _ in range(MAX_UNPROVEN):
        refusals.refused(0.0)
        assert refusals.judge_alone(1, 0.0, dies_alone=False) is Refusal.WAITS
    assert refusals.judge_alone(1, 0.0, dies_alone=False) is Refusal.HALTS


def test_an_answer_about_the_request_kills_a_few_and_then_halts() -> None:
    """A wrong path answers 404 to everything: only a few events pay for finding out."""
    refusals = Refusals()
    fates = []
    for _ in range(MAX_UNPROVEN + 1):
        refusals.refused(0.0)
        fates.append(refusals.judge_alone(1, 0.0, dies_alone=True))
    assert fates == [Refusal.DIES] * MAX_UNPROVEN + [Refusal.HALTS]


def test_many_deaths_in_a_row_halt_even_after_a_success() -> None:
    """The door may have shut after it; not everything behind it dies."""
    refusals = Refusals()
    refusals.refused(0.0)
    refusals.taken(1.0)
    fates = []
    for _ in range(MAX_ALONE + 1):
        refusals.refused(2.0)
        fates.append(refusals.judge_alone(1, 0.0, dies_alone=False))
    assert fates == [Refusal.DIES] * MAX_ALONE + [Refusal.HALTS]


def test_a_success_starts_the_count_again() -> None:
    """Single bad events among good ones never add up to a halt."""
    refusals = Refusals()
    refusals.refused(0.0)
    for number in range(10 * MAX_ALONE):
        refusals.taken(1.0 + number)
        refusals.refused(1.5 + number)
        assert refusals.judge_alone(1, 0.0, dies_alone=False) is Refusal.DIES


def test_refusals_far_apart_are_episodes_of_their_own() -> None:
    """Proof of one day says nothing about the next."""
    refusals = Refusals()
    refusals.refused(0.0)
    refusals.taken(1.0)
    refusals.refused(2.0 + EPISODE_S)
    assert refusals.judge_alone(1, 2.0 + EPISODE_S, dies_alone=False) is Refusal.WAITS
