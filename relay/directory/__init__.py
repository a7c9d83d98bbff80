"""The directory: whom OneSignal knows, and which of their subscriptions are subscribed."""
