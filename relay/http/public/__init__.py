"""The public door: webhooks and uploads."""
