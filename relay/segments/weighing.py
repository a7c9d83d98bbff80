"""Whether what an event tells of a subscription is newer than what is known of it."""

from typing import NamedTuple

from relay.directory.evidence import Evidence


class Known(NamedTuple):
    """What the directory holds of a subscription.

    Attributes:
        external_id: Whose it is.
        type: OneSignal's name of its kind.
        is_subscribed: Its flag.
        as_of: The instant this tells of.
        is_told: Whether the app itself said so, whose word has no instant.
    """

    external_id: str
    type: str
    is_subscribed: int
    as_of: int
    is_told: int


def weigh(evidence: Evidence, known: Known | None, exported_at: int) -> Known | None:
    """Return what is known of a subscription after some evidence; None if that is nothing new.

    Of an event and an export the newer counts, and a whole export tells of every subscription,
    also of those it lacks. The app's own word and events count as they come.

    Args:
        evidence: What an event tells.
        known: What is known so far, None for a subscription never seen.
        exported_at: When the last whole export was asked for, 0 if never.
    """
    if known is None:
        if evidence.external_id is None or evidence.at <= exported_at:
            return None
        flag = int(evidence.flag is not False)
        return Known(evidence.external_id, evidence.type, flag, evidence.at, 0)
    oldest = exported_at if known.is_told else max(exported_at, known.as_of)
    if evidence.at < oldest:
        return None
    flag = known.is_subscribed
    if evidence.is_proof_of_flag and evidence.flag is not None:
        flag = int(evidence.flag)
    owner = evidence.external_id or known.external_id
    if (owner, flag) == (known.external_id, known.is_subscribed):
        return None
    return Known(owner, known.type, flag, max(evidence.at, known.as_of), 0)
