"""The public and the admin door."""
