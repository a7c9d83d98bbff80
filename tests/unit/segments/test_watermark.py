import pytest

from relay.segments.watermark import Watermark, needs_refresh

LISTED = Watermark(last_computed_at=1_679_440_233_000, last_mod_at=1_679_437_294_000, size=111)
OTHERS = [
    LISTED._replace(last_computed_at=LISTED.last_computed_at + 1000),
    LISTED._replace(last_computed_at=LISTED.last_computed_at - 1000),
    LISTED._replace(last_mod_at=LISTED.last_mod_at + 1000),
    LISTED._replace(size=112),
]


def test_a_cohort_never_downloaded_is_worth_it() -> None:
    """Nothing is applied yet."""
    assert needs_refresh(LISTED, applied=None, rejected=None, held=None)


@pytest.mark.parametrize("other", OTHERS)
def test_any_difference_is_worth_a_download(other: Watermark) -> None:
    """A new computation, a new definition, a new size, also one further back."""
    assert needs_refresh(LISTED, applied=other, rejected=None, held=None)


def test_another_definition_alone_does_not_bring_back_what_was_judged() -> None:
    """A computation is judged; its definition may be edited without a new one."""
    edited = LISTED._replace(last_mod_at=LISTED.last_mod_at + 1000)
    assert not needs_refresh(edited, applied=None, rejected=LISTED, held=None)
    assert not needs_refresh(edited, applied=None, rejected=None, held=LISTED)


@pytest.mark.parametrize("other", [OTHERS[0], OTHERS[1], OTHERS[3]])
def test_a_new_computation_is_judged_anew(other: Watermark) -> None:
    """A decision holds for that computation alone."""
    assert needs_refresh(LISTED, applied=None, rejected=other, held=other)


def test_what_is_applied_is_not_downloaded_again() -> None:
    """Downloads per month are limited."""
    assert not needs_refresh(LISTED, applied=LISTED, rejected=None, held=None)


@pytest.mark.parametrize("applied", [None, OTHERS[0]])
def test_what_a_person_has_to_judge_or_has_judged_is_left_alone(applied: Watermark | None) -> None:
    """A rejected computation is not downloaded again, nor is one that is held."""
    assert not needs_refresh(LISTED, applied=applied, rejected=LISTED, held=None)
    assert not needs_refresh(LISTED, applied=applied, rejected=None, held=LISTED)
