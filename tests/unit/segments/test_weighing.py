"""Whether what an event tells of a subscription is newer than what is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events.observation import KnownSubscription, Observation, merge

T1, T2, T3 = 1_000, 2_000, 3_000
KNOWN = KnownSubscription("anna", "iOSPush", 1, T2, 0)


def _told(
    at: int, *, user: str | None = "anna", flag: bool | None = None, is_proof: bool = False
) -> Observation:
    return Observation(user, "s", "AndroidPush", flag, is_proof, at)


@pytest.mark.parametrize(("flag", "stored"), [(None, 1), (True, 1), (False, 0)])
@pytest.mark.parametrize("is_proof", [True, False])
def test_a_new_subscription_is_subscribed_unless_the_event_says_no(
    *, flag: bool | None, stored: int, is_proof: bool
) -> None:
    """OneSignal sends to subscribed ones; in-app messages are the exception."""
    told = _told(T1, flag=flag, is_proof=is_proof)
    assert merge(told, None, 0) == KnownSubscription("anna", "AndroidPush", stored, T1, 0)


def test_a_new_subscription_without_a_user_is_nobody_s() -> None:
    """The directory is of users."""
    assert merge(_told(T1, user=None, flag=False, is_proof=True), None, 0) is None


@pytest.mark.parametrize(("at", "is_taken"), [(T1, False), (T2, False), (T3, True)])
def test_a_whole_export_tells_also_of_what_it_lacks(at: int, *, is_taken: bool) -> None:
    """A subscription it did not show was not there then."""
    assert (merge(_told(at), None, T2) is not None) is is_taken


@pytest.mark.parametrize(("at", "flag"), [(T1, None), (T2, 0), (T3, 0)])
def test_of_two_words_about_a_flag_the_newer_counts(at: int, flag: int | None) -> None:
    """Of one instant the later to arrive does."""
    now = merge(_told(at, flag=False, is_proof=True), KNOWN, 0)
    assert (now.is_subscribed if now else None) == flag
    assert now is None or now.as_of == at


def test_what_is_no_proof_changes_no_flag() -> None:
    """An in-app message shown to somebody does not unsubscribe the phone."""
    assert merge(_told(T3, flag=False), KNOWN, 0) is None


def test_an_event_does_not_unsay_a_later_export() -> None:
    """What the export confirmed without writing it down counts too."""
    told = _told(T2, flag=False, is_proof=True)
    assert merge(told, KNOWN, T3) is None
    assert merge(told._replace(at=T3), KNOWN, T3) is not None


def test_a_subscription_gets_another_owner_by_a_newer_event_only() -> None:
    """It keeps its kind and its flag."""
    assert merge(_told(T1, user="ben"), KNOWN, 0) is None
    assert merge(_told(T3, user="ben"), KNOWN, 0) == KnownSubscription("ben", "iOSPush", 1, T3, 0)


def test_an_event_without_a_user_leaves_the_owner() -> None:
    """It concerns the subscription alone."""
    told = _told(T3, user=None, flag=False, is_proof=True)
    assert merge(told, KNOWN, 0) == KnownSubscription("anna", "iOSPush", 0, T3, 0)


def test_an_event_counts_after_the_app_s_own_word_whatever_its_instant() -> None:
    """The app's word has none; but no event unsays a later export."""
    app_s_word = KNOWN._replace(is_told=1, as_of=T3)
    told = _told(T2, flag=False, is_proof=True)
    assert merge(told, app_s_word, T1) == KnownSubscription("anna", "iOSPush", 0, T3, 0)
    assert merge(told, app_s_word, T3) is None


instants = st.integers(0, 9)


@given(
    at=instants,
    user=st.sampled_from(["anna", "ben", None]),
    flag=st.sampled_from([None, True, False]),
    is_proof=st.booleans(),
    known=st.none()
    | st.builds(
        KnownSubscription,
        st.sampled_from(["anna", "ben"]),
        st.just("iOSPush"),
        st.integers(0, 1),
        instants,
        st.integers(0, 1),
    ),
    exported_at=instants,
)
def test_what_counts_is_news_and_never_older(  # everything that may be
    *,
    at: int,
    user: str | None,
    flag: bool | None,
    is_proof: bool,
    known: KnownSubscription | None,
    exported_at: int,
) -> None:
    """Hearing it a second time changes nothing, and the instant never goes back."""
    told = _told(at, user=user, flag=flag, is_proof=is_proof)
    now = merge(told, known, exported_at)
    if now is None:
        return
    assert now != known
    assert now.as_of >= at
    assert at >= exported_at
    assert known is None or now.as_of >= known.as_of
    assert merge(told, now, exported_at) is None
