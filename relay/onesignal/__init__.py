"""OneSignal's API on the wire."""
