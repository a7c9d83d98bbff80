"""The catalogue of kinds, compared with tables typed from OneSignal's pages, not from the code."""

import pytest

from relay.events.catalog import (
    KINDS,
    NAME_SETS,
    SEED_KINDS,
    NameSet,
    event_name,
    message_type,
    normalise_kind,
    parse_selection,
)

# Typed from the Amplitude page itself, top to bottom, "deliveery" included.
SEED_PAGE = """
message.push.sent              | [OneSignal] Push Sent
message.push.received          | [OneSignal] Push Confirmed delivery
message.push.clicked           | [OneSignal] Push Clicked
message.push.failed            | [OneSignal] Push Failed
message.push.unsubscribed      | [OneSignal] Push Unsubscribed
message.iam.impression         | [OneSignal] IAM Displayed
message.iam.clicked            | [OneSignal] IAM Clicked
message.iam.page_displayed     | [OneSignal] IAM Page Displayed
message.email.sent             | [OneSignal] Email Sent
message.email.received         | [OneSignal] Email Confirmed delivery
message.email.opened           | [OneSignal] Email Opened
message.email.clicked          | [OneSignal] Email Clicked
message.email.unsubscribed     | [OneSignal] Email Unsubscribed
message.email.reported_as_spam | [OneSignal] Email Reported As SPAM
message.email.bounced          | [OneSignal] Email Hard Bounced
message.email.failed           | [OneSignal] Email Failed delivery
message.email.suppressed       | [OneSignal] Email Not delivering to suppressed email address
message.sms.sent               | [OneSignal] SMS Sent
message.sms.failed             | [OneSignal] SMS Failed delivery
message.sms.delivered          | [OneSignal] SMS Confirmed deliveery
message.sms.undelivered        | [OneSignal] SMS Undelivered
"""
SEED = dict(row.split("|") for row in SEED_PAGE.strip().splitlines())
SEED = {kind.strip(): name.strip() for kind, name in SEED.items()}

LIVE_ACTIVITIES = {
    "message.live_activity.sent": "Live Activity Sent",
    "message.live_activity.delivered": "Live Activity Delivered",
    "message.live_activity.unsubscribed": "Live Activity Unsubscribed",
    "message.live_activity.failed": "Live Activity Failed",
    "message.live_activity.clicked": "Live Activity Clicked",
}
DIFFERENT_IN_2026 = {
    "message.push.sent": "[Onesignal] Push Delivered",
    "message.email.sent": "[Onesignal] Email Delivered",
    "message.email.reported_as_spam": "[Onesignal] Email Reported as SPAM",
    "message.email.bounced": "[Onesignal] Email Hard bounced",
    "message.sms.sent": "[Onesignal] SMS Delivered",
    "message.sms.delivered": "[Onesignal] SMS Confirmed delivery",
    "message.sms.undelivered": "[Onesignal] SMS Failed delivery",
}
KNOWN_IN_2022 = {
    "message.push.sent": "Push Pending Delivery",
    "message.push.received": "Push Confirmed Delivery",
    "message.push.clicked": "Push Clicked",
    "message.iam.impression": "IAM Displayed",
    "message.iam.clicked": "In-App Message Clicked",
    "message.email.sent": "Email Pending Delivery",
    "message.email.opened": "Email Opened",
    "message.email.clicked": "Email Clicked",
    "message.sms.sent": "SMS Pending Delivery",
}


def _names(name_set: NameSet) -> dict[str, str]:
    return {kind: event_name(kind, name_set) for kind in KINDS}


def test_seed_names_are_the_page_letter_for_letter() -> None:
    """The set `seed` is the page of 2025, and live activities follow its prefix."""
    live = {kind: f"[OneSignal] {name}" for kind, name in LIVE_ACTIVITIES.items()}
    assert SEED | live == _names("seed")


def test_names_of_2026_differ_in_prefix_and_seven_endings() -> None:
    """The set `2026` has a small s in its prefix and seven other names."""
    names = SEED | {kind: f"[OneSignal] {name}" for kind, name in LIVE_ACTIVITIES.items()}
    same = {kind: name.replace("[OneSignal]", "[Onesignal]") for kind, name in names.items()}
    assert same | DIFFERENT_IN_2026 == _names("2026")


def test_names_of_2022_have_no_prefix() -> None:
    """The set `2022` has its nine names, and the seed's without prefix for the rest."""
    bare = {kind: name.removeprefix("[OneSignal] ") for kind, name in SEED.items()}
    assert bare | LIVE_ACTIVITIES | KNOWN_IN_2022 == _names("2022")


def test_there_are_26_kinds_of_which_the_seed_has_21_in_its_order() -> None:
    """`all` means what OneSignal's own integration sends; live activities come on top."""
    assert tuple(SEED) == SEED_KINDS
    assert {*SEED, *LIVE_ACTIVITIES} == KINDS
    assert len(KINDS) == 26
    assert NAME_SETS == ("seed", "2026", "2022")


@pytest.mark.parametrize(
    ("kind", "seed", "in_2022"),
    [
        ("message.push.sent", "push", "push"),
        ("message.iam.page_displayed", "in-app", "in-app"),
        ("message.email.bounced", "email", "email"),
        ("message.sms.undelivered", "SMS", "sms"),
        ("message.live_activity.sent", "live_activity", "live_activity"),
    ],
)
def test_message_type_follows_channel_and_name_set(kind: str, seed: str, in_2022: str) -> None:
    """Only the set of 2022 writes SMS in small letters."""
    types = [message_type(kind, name_set) for name_set in NAME_SETS]
    assert types == [seed, seed, in_2022]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_canonical_kinds_are_their_own_spelling(kind: str) -> None:
    """Every canonical kind is accepted as it is, in capitals and with spaces around dots."""
    assert normalise_kind(kind) == kind
    assert normalise_kind(kind.upper()) == kind
    assert normalise_kind(" " + kind.replace(".", " . ") + "\n") == kind


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [
        ("message.push received", "message.push.received"),
        ("message.iam.displayed", "message.iam.impression"),
        ("message. iam.clicked", "message.iam.clicked"),
        ("message.iam.pagedisplayed", "message.iam.page_displayed"),
        ("message.email.resporedasspam", "message.email.reported_as_spam"),
        ("message.email.hardbounced", "message.email.bounced"),
        ("message.email.supressed", "message.email.suppressed"),
        ("Message.Email. HardBounced ", "message.email.bounced"),
    ],
)
def test_spellings_of_other_documentation_are_accepted(spelling: str, kind: str) -> None:
    """Every spelling OneSignal ever printed means its kind."""
    assert normalise_kind(spelling) == kind


@pytest.mark.parametrize(
    "text",
    ["", " ", "message", "message.push.displayed", "message.sms.unsubscribed", "push.sent", "all"],
)
def test_other_texts_are_no_kind(text: str) -> None:
    """Kinds mentioned in prose but in no reference are unknown."""
    assert normalise_kind(text) is None


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("all", set(SEED)),
        (" ALL ", set(SEED)),
        ("message.push.clicked", {"message.push.clicked"}),
        (
            "message.push.clicked, message.sms.sent,\n",
            {"message.push.clicked", "message.sms.sent"},
        ),
        ("message.email.hardbounced", {"message.email.bounced"}),
        ("message.live_activity.*", set(LIVE_ACTIVITIES)),
        ("message. IAM.*", {kind for kind in SEED if ".iam." in kind}),
        ("all,message.live_activity.*", {*SEED, *LIVE_ACTIVITIES}),
        ("all,message.push.sent", set(SEED)),
    ],
)
def test_selection_is_the_union_of_its_entries(text: str, kinds: set[str]) -> None:
    """Kinds, channels and `all` may be combined, with any spelling and spacing."""
    assert parse_selection(text) == kinds


@pytest.mark.parametrize(
    ("text", "entry", "nearest"),
    [
        ("all,message.push.clickd", "message.push.clickd", "message.push.clicked"),
        ("Push Clicked", "Push Clicked", "message.push.clicked"),
        ("message.pus.*", "message.pus.*", "message.push.*"),
        ("al", "al", "all"),
    ],
)
def test_wrong_entry_is_named_with_the_nearest(text: str, entry: str, nearest: str) -> None:
    """The mistake names the wrong entry and the most similar valid one."""
    with pytest.raises(ValueError, match="no event kind") as caught:
        parse_selection(text)
    assert str(caught.value) == f"{entry!r} is no event kind; did you mean {nearest!r}?"


@pytest.mark.parametrize("text", ["", "  ", ",", " , ,"])
def test_selection_of_nothing_is_a_mistake(text: str) -> None:
    """A relay that sends nothing is hardly intended."""
    with pytest.raises(ValueError, match="no event kind is given"):
        parse_selection(text)
