import pytest

from relay.segments.watermark import Watermark, needs_refresh

LISTED = Watermark(last_computed_at=1_679_440_233_000, last_mod_at=1_679_437_294_000, size=111)
OTHERS = [
    LISTED._replace(last_computed_at=LISTED.last_computed_at + 1000),
    LISTED._replace(last_computed_at=LISTED.last_computed_at - 1000),
    LISTED._replace(last_mod_at=LISTED.last_mod_at + 1000),
    LISTED._replace(size=112),
]


def test_a_cohort_never_downloaded_needs_a_download() -> None:
    """Nothing is applied yet."""
    assert needs_refresh(LISTED, applied=None, rejected=None, held=None)


@pytest.mark.parametrize("other", OTHERS)
def test_any_difference_needs_a_download(other: Watermark) -> None:
    """A new computation, a new definition, a new size, also one further back."""
    assert needs_refresh(LISTED, applied=other, rejected=None, held=None)


def test_another_definition_alone_does_not_reopen_a_decision() -> None:
    """A computation was judged; its definition may change without a new one."""
    edited = LISTED._replace(last_mod_at=LISTED.last_mod_at + 1000)
    assert not needs_refresh(edited, applied=None, rejected=LISTED, held=None)
    assert not needs_refresh(edited, applied=None, rejected=None, held=LISTED)


@pytest.mark.parametrize("other", [OTHERS[0], OTHERS[1], OTHERS[3]])
def test_a_new_computation_needs_a_new_decision(other: Watermark) -> None:
    """A decision holds for one computation only."""
    assert needs_refresh(LISTED, applied=None, rejected=other, held=other)


def test_what_is_applied_is_not_downloaded_again() -> None:
    """Downloads per month are limited."""
    assert not needs_refresh(LISTED, applied=LISTED, rejected=None, held=None)


@pytest.mark.parametrize("applied", [None, OTHERS[0]])
def test_held_and_rejected_computations_are_not_downloaded(applied: Watermark | None) -> None:
    """Neither a rejected computation nor a held one is downloaded again."""
    assert not needs_refresh(LISTED, applied=applied, rejected=LISTED, held=None)
    assert not needs_refresh(LISTED, applied=applied, rejected=None, held=LISTED)
