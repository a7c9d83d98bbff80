import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events.catalog import KINDS
from relay.events.observation import KnownSubscription, Observation, merge, read_observation
from relay.events.records import Record

SENT_AT = 1_767_261_906_412
RECEIVED_AT = SENT_AT + 900
EVENT = Record(
    kind="message.push.clicked",
    event_id="5d0f6a9e-3f0a-4b57-9b1e-0c9be1a4d101",
    subscription_id="a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
    external_id="user-10042",
    device_type="iOS",
    time_ms=SENT_AT,
)
ENDS = {"message.push.unsubscribed", "message.email.unsubscribed"}
REACHED = {
    *("message.push.sent", "message.push.received", "message.email.sent"),
    *("message.email.received", "message.sms.sent", "message.sms.delivered"),
}
IN_APP = {"message.iam.impression", "message.iam.clicked", "message.iam.page_displayed"}


def _read(record: Record) -> Observation:
    observation = read_observation(record, received_at=RECEIVED_AT)
    assert observation is not None
    return observation


def test_an_event_proves_its_user_and_its_subscription() -> None:
    """A user who clicked exists."""
    assert _read(EVENT) == Observation(
        external_id="user-10042",
        subscription_id="a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
        type="iOSPush",
        flag=None,
        is_proof_of_flag=False,
        at=SENT_AT,
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_proves_what_it_can_of_the_flag(kind: str) -> None:
    """Delivery proves a subscription, unsubscribing its end, the rest only existence.

    In-app messages are also shown to users who never subscribed, so they prove nothing.
    """
    expected: tuple[bool | None, bool] = (None, False)
    if kind in ENDS:
        expected = (False, True)
    elif kind in REACHED:
        expected = (True, True)
    elif kind in IN_APP:
        expected = (False, False)
    observation = _read(EVENT._replace(kind=kind))
    assert (observation.flag, observation.is_proof_of_flag) == expected


@pytest.mark.parametrize("kind", sorted(KINDS - ENDS))
@pytest.mark.parametrize("flag", [True, False])
def test_the_flag_of_the_body_counts(kind: str, *, flag: bool) -> None:
    """It comes from OneSignal itself."""
    observation = _read(EVENT._replace(kind=kind, is_subscribed=flag))
    assert (observation.flag, observation.is_proof_of_flag) == (flag, True)


@pytest.mark.parametrize("kind", sorted(ENDS))
def test_unsubscribing_outranks_the_flag_of_the_body(kind: str) -> None:
    """The body may describe the state before."""
    observation = _read(EVENT._replace(kind=kind, is_subscribed=True))
    assert (observation.flag, observation.is_proof_of_flag) == (False, True)


@pytest.mark.parametrize("kind", sorted(ENDS | REACHED))
def test_without_a_user_a_known_subscription_can_still_change(kind: str) -> None:
    """Its flag is proven; its user is known from elsewhere."""
    observation = _read(EVENT._replace(kind=kind, external_id=None))
    assert observation.external_id is None
    assert observation.is_proof_of_flag


@pytest.mark.parametrize("kind", sorted(KINDS - ENDS - REACHED))
def test_without_a_user_existence_is_no_observation(kind: str) -> None:
    """The directory identifies users by External ID."""
    anonymous = EVENT._replace(kind=kind, external_id=None)
    assert read_observation(anonymous, received_at=RECEIVED_AT) is None


def test_without_a_subscription_there_is_no_observation() -> None:
    """There is no subscription to store a flag for."""
    assert read_observation(EVENT._replace(subscription_id=None), received_at=RECEIVED_AT) is None


@pytest.mark.parametrize("kind", ["message.push.clicked", "message.push.sent"])
@pytest.mark.parametrize(
    ("user", "subscription"), [("anna\0x", "s-1"), ("anna", "s-1\0x"), (None, "\0")]
)
def test_an_id_that_sqlite_would_cut_proves_nothing(
    kind: str, user: str | None, subscription: str
) -> None:
    """Cut at U+0000 it would prove another user or subscription."""
    cut = EVENT._replace(kind=kind, external_id=user, subscription_id=subscription)
    assert read_observation(cut, received_at=RECEIVED_AT) is None


@pytest.mark.parametrize(
    ("time_ms", "at"),
    [(SENT_AT, SENT_AT), (None, RECEIVED_AT), (RECEIVED_AT + 5000, RECEIVED_AT), (1, 1)],
)
def test_the_instant_is_the_events_own_but_never_ahead(time_ms: int | None, at: int) -> None:
    """A late event counts for its own time; one from the future would outrank all later ones."""
    assert _read(EVENT._replace(time_ms=time_ms)).at == at


@pytest.mark.parametrize(
    ("label", "kind", "type_"),
    [
        ("Android", "message.push.sent", "AndroidPush"),
        ("Email", "message.email.sent", "Email"),
        (None, "message.email.sent", "Email"),
        (None, "message.sms.delivered", "SMS"),
        (None, "message.push.sent", "Push"),
        (None, "message.iam.clicked", "Push"),
        (None, "message.live_activity.sent", "Push"),
    ],
)
def test_the_type_is_that_of_the_label_else_of_the_channel(
    label: str | None, kind: str, type_: str
) -> None:
    """A template without labels still distinguishes an address from a device."""
    assert _read(EVENT._replace(device_type=label, kind=kind)).type == type_


T1, T2, T3 = 1_000, 2_000, 3_000
KNOWN = KnownSubscription("anna", "iOSPush", 1, T2, 0)


def _seen(
    at: int, *, user: str | None = "anna", flag: bool | None = None, is_proof: bool = False
) -> Observation:
    return Observation(user, "s", "AndroidPush", flag, is_proof, at)


@pytest.mark.parametrize(("flag", "stored"), [(None, 1), (True, 1), (False, 0)])
@pytest.mark.parametrize("is_proof", [True, False])
def test_a_new_subscription_is_subscribed_unless_the_event_says_no(
    *, flag: bool | None, stored: int, is_proof: bool
) -> None:
    """OneSignal sends to subscribed ones; in-app messages are the exception."""
    seen = _seen(T1, flag=flag, is_proof=is_proof)
    assert merge(seen, None, 0) == KnownSubscription("anna", "AndroidPush", stored, T1, 0)


def test_a_new_subscription_without_a_user_is_not_stored() -> None:
    """The directory stores users."""
    assert merge(_seen(T1, user=None, flag=False, is_proof=True), None, 0) is None


@pytest.mark.parametrize(("at", "is_taken"), [(T1, False), (T2, False), (T3, True)])
def test_a_complete_export_also_denies_what_it_lacks(at: int, *, is_taken: bool) -> None:
    """A subscription missing from a complete export did not exist then."""
    assert (merge(_seen(at), None, T2) is not None) is is_taken


@pytest.mark.parametrize(("at", "flag"), [(T1, None), (T2, 0), (T3, 0)])
def test_the_newer_of_two_flags_wins(at: int, flag: int | None) -> None:
    """At equal instants the later to arrive wins."""
    now = merge(_seen(at, flag=False, is_proof=True), KNOWN, 0)
    assert (now.is_subscribed if now else None) == flag
    assert now is None or now.as_of == at


def test_what_is_no_proof_changes_no_flag() -> None:
    """An in-app message does not unsubscribe the phone."""
    assert merge(_seen(T3, flag=False), KNOWN, 0) is None


def test_an_event_does_not_override_a_later_export() -> None:
    """Also for flags the export confirmed without writing them."""
    seen = _seen(T2, flag=False, is_proof=True)
    assert merge(seen, KNOWN, T3) is None
    assert merge(seen._replace(at=T3), KNOWN, T3) is not None


def test_a_subscription_gets_another_owner_by_a_newer_event_only() -> None:
    """It keeps its kind and its flag."""
    assert merge(_seen(T1, user="ben"), KNOWN, 0) is None
    assert merge(_seen(T3, user="ben"), KNOWN, 0) == KnownSubscription("ben", "iOSPush", 1, T3, 0)


def test_an_event_without_a_user_leaves_the_owner() -> None:
    """It concerns only the subscription."""
    seen = _seen(T3, user=None, flag=False, is_proof=True)
    assert merge(seen, KNOWN, 0) == KnownSubscription("anna", "iOSPush", 0, T3, 0)


def test_an_event_counts_after_a_put_whatever_its_instant() -> None:
    """An app's PUT has no instant; but no event overrides a later export."""
    app_s_word = KNOWN._replace(is_from_app=1, as_of=T3)
    seen = _seen(T2, flag=False, is_proof=True)
    assert merge(seen, app_s_word, T1) == KnownSubscription("anna", "iOSPush", 0, T3, 0)
    assert merge(seen, app_s_word, T3) is None


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
def test_what_counts_is_news_and_never_older(  # every combination
    *,
    at: int,
    user: str | None,
    flag: bool | None,
    is_proof: bool,
    known: KnownSubscription | None,
    exported_at: int,
) -> None:
    """Repeating it changes nothing, and the instant never decreases."""
    seen = _seen(at, user=user, flag=flag, is_proof=is_proof)
    now = merge(seen, known, exported_at)
    if now is None:
        return
    assert now != known
    assert now.as_of >= at
    assert at >= exported_at
    assert known is None or now.as_of >= known.as_of
    assert merge(seen, now, exported_at) is None
