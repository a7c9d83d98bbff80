"""The admin door: one declared operation per route."""
