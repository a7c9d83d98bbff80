"""Why a cohort's size and its segment's count differ: numbers that add up, each in plain words."""

from typing import Final, NamedTuple

from relay.segments.read_model import GROUPS, Explanation


class Part(NamedTuple):
    """One number of an explanation.

    Attributes:
        sign: How it relates to the numbers above it.
        name: What the API calls it; ids are listed under that name.
        text: What it means, and what can be done about it.
    """

    sign: str
    name: str
    text: str

    @property
    def label(self) -> str:
        """What stands before the number."""
        return f"{self.sign} {self.name}"

    @property
    def has_ids(self) -> bool:
        """Whether there are ids behind it."""
        return self.name in GROUPS


PARTS: Final = (
    Part(
        " ",
        "cohort_size",
        "Entries of the list that is applied. Amplitude may show another number when it has "
        "computed the cohort anew since.",
    ),
    Part(
        "-",
        "empty_ids",
        "Entries without a user id: Amplitude knows them by a device alone. The app must set the "
        "user id when somebody logs in.",
    ),
    Part(
        "-",
        "restricted_ids",
        "Ids that OneSignal refuses as External ID, such as NA, 0 or all: placeholders the app "
        "sends instead of an id.",
    ),
    Part(
        "-",
        "unknown_users",
        "OneSignal has no user with this External ID: never logged in with it, or spelt "
        "otherwise in one of the two. Users are not created by a cohort.",
    ),
    Part("=", "matched_users", "Members of the segment, people counted once each."),
    Part(
        "-",
        "matched_without_subscription",
        "Members without any subscription, by push, email or SMS: nothing can be sent to them.",
    ),
    Part(
        "-",
        "only_unsubscribed",
        "Members all of whose subscriptions are unsubscribed: not in a segment's count, though "
        "Journeys and in-app messages can still reach them.",
    ),
    Part("=", "subscribed_users", "Members with at least one subscribed subscription."),
    Part(
        " ",
        "subscribed_count",
        "The subscribed subscriptions of these members: what a segment's count is. One user may "
        "have several, one for each device, address and number.",
    ),
)

TAKES_ALL: Final = (
    "Members without any subscription, or not known to OneSignal at all: with MEMBERSHIP=all they "
    "count as members all the same."
)


def text_of(part: Part, *, takes_all: bool) -> str:
    """Return what a number means, under the app's rule of membership."""
    return TAKES_ALL if takes_all and part.name == "matched_without_subscription" else part.text


def numbers_of(explanation: Explanation) -> list[tuple[Part, int]]:
    """Return the parts with their numbers, in the order in which they add up."""
    numbers = explanation._asdict()
    return [(part, numbers[part.name]) for part in PARTS]


def summary(explanation: Explanation) -> str:
    """Return the answer in a sentence."""
    size, count = explanation.cohort_size, explanation.subscribed_count
    without = size - explanation.subscribed_users
    further = count - explanation.subscribed_users
    if not without and not further:
        return f"cohort and segment match: {size:,} users, with one subscribed subscription each"
    reasons = []
    if without:
        reasons.append(f"{without:,} of the cohort's {size:,} entries have none")
    if further:
        reasons.append(f"members with several have {further:,} besides their first")
    return f"the segment counts {count:,} subscribed subscriptions: {', and '.join(reasons)}"
