"""OneSignal: the event stream and the CSV export of subscriptions."""
