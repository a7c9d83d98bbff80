"""Amplitude's name of each kind of message event: the published spellings, as tables.

Every name is copied letter for letter, including irregular capitals and misspellings, because
existing charts in Amplitude refer to them. Nothing is generated, so that every name can be
searched for.
"""

from collections.abc import Mapping
from typing import Final

# Source: OneSignal's Amplitude page of 2025, for the 21 kinds it lists. It says "deliveery".
# No page names live activities; they follow the set's prefix.
_SEED: Final = {
    "message.push.sent": "[OneSignal] Push Sent",
    "message.push.received": "[OneSignal] Push Confirmed delivery",
    "message.push.clicked": "[OneSignal] Push Clicked",
    "message.push.failed": "[OneSignal] Push Failed",
    "message.push.unsubscribed": "[OneSignal] Push Unsubscribed",
    "message.iam.impression": "[OneSignal] IAM Displayed",
    "message.iam.clicked": "[OneSignal] IAM Clicked",
    "message.iam.page_displayed": "[OneSignal] IAM Page Displayed",
    "message.email.sent": "[OneSignal] Email Sent",
    "message.email.received": "[OneSignal] Email Confirmed delivery",
    "message.email.opened": "[OneSignal] Email Opened",
    "message.email.clicked": "[OneSignal] Email Clicked",
    "message.email.unsubscribed": "[OneSignal] Email Unsubscribed",
    "message.email.reported_as_spam": "[OneSignal] Email Reported As SPAM",
    "message.email.bounced": "[OneSignal] Email Hard Bounced",
    "message.email.failed": "[OneSignal] Email Failed delivery",
    "message.email.suppressed": "[OneSignal] Email Not delivering to suppressed email address",
    "message.sms.sent": "[OneSignal] SMS Sent",
    "message.sms.failed": "[OneSignal] SMS Failed delivery",
    "message.sms.delivered": "[OneSignal] SMS Confirmed deliveery",
    "message.sms.undelivered": "[OneSignal] SMS Undelivered",
    "message.live_activity.sent": "[OneSignal] Live Activity Sent",
    "message.live_activity.delivered": "[OneSignal] Live Activity Delivered",
    "message.live_activity.unsubscribed": "[OneSignal] Live Activity Unsubscribed",
    "message.live_activity.failed": "[OneSignal] Live Activity Failed",
    "message.live_activity.clicked": "[OneSignal] Live Activity Clicked",
}

# Source: OneSignal's Amplitude page of early 2026, whose prefix has a small s and which gives
# "SMS Failed delivery" to two kinds.
_2026: Final = {
    "message.push.sent": "[Onesignal] Push Delivered",
    "message.push.received": "[Onesignal] Push Confirmed delivery",
    "message.push.clicked": "[Onesignal] Push Clicked",
    "message.push.failed": "[Onesignal] Push Failed",
    "message.push.unsubscribed": "[Onesignal] Push Unsubscribed",
    "message.iam.impression": "[Onesignal] IAM Displayed",
    "message.iam.clicked": "[Onesignal] IAM Clicked",
    "message.iam.page_displayed": "[Onesignal] IAM Page Displayed",
    "message.email.sent": "[Onesignal] Email Delivered",
    "message.email.received": "[Onesignal] Email Confirmed delivery",
    "message.email.opened": "[Onesignal] Email Opened",
    "message.email.clicked": "[Onesignal] Email Clicked",
    "message.email.unsubscribed": "[Onesignal] Email Unsubscribed",
    "message.email.reported_as_spam": "[Onesignal] Email Reported as SPAM",
    "message.email.bounced": "[Onesignal] Email Hard bounced",
    "message.email.failed": "[Onesignal] Email Failed delivery",
    "message.email.suppressed": "[Onesignal] Email Not delivering to suppressed email address",
    "message.sms.sent": "[Onesignal] SMS Delivered",
    "message.sms.failed": "[Onesignal] SMS Failed delivery",
    "message.sms.delivered": "[Onesignal] SMS Confirmed delivery",
    "message.sms.undelivered": "[Onesignal] SMS Failed delivery",
    "message.live_activity.sent": "[Onesignal] Live Activity Sent",
    "message.live_activity.delivered": "[Onesignal] Live Activity Delivered",
    "message.live_activity.unsubscribed": "[Onesignal] Live Activity Unsubscribed",
    "message.live_activity.failed": "[Onesignal] Live Activity Failed",
    "message.live_activity.clicked": "[Onesignal] Live Activity Clicked",
}

# Source: OneSignal's Amplitude page of March 2022, without a prefix. Where it had no name, the
# name of 2025 without the prefix.
_2022: Final = {
    "message.push.sent": "Push Pending Delivery",
    "message.push.received": "Push Confirmed Delivery",
    "message.push.clicked": "Push Clicked",
    "message.push.failed": "Push Failed",
    "message.push.unsubscribed": "Push Unsubscribed",
    "message.iam.impression": "IAM Displayed",
    "message.iam.clicked": "In-App Message Clicked",
    "message.iam.page_displayed": "IAM Page Displayed",
    "message.email.sent": "Email Pending Delivery",
    "message.email.received": "Email Confirmed delivery",
    "message.email.opened": "Email Opened",
    "message.email.clicked": "Email Clicked",
    "message.email.unsubscribed": "Email Unsubscribed",
    "message.email.reported_as_spam": "Email Reported As SPAM",
    "message.email.bounced": "Email Hard Bounced",
    "message.email.failed": "Email Failed delivery",
    "message.email.suppressed": "Email Not delivering to suppressed email address",
    "message.sms.sent": "SMS Pending Delivery",
    "message.sms.failed": "SMS Failed delivery",
    "message.sms.delivered": "SMS Confirmed deliveery",
    "message.sms.undelivered": "SMS Undelivered",
    "message.live_activity.sent": "Live Activity Sent",
    "message.live_activity.delivered": "Live Activity Delivered",
    "message.live_activity.unsubscribed": "Live Activity Unsubscribed",
    "message.live_activity.failed": "Live Activity Failed",
    "message.live_activity.clicked": "Live Activity Clicked",
}

NAMES: Final[Mapping[str, Mapping[str, str]]] = {"seed": _SEED, "2026": _2026, "2022": _2022}
"""By name set, then by kind."""
