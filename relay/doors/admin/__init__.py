"""The admin door: health, metrics and the JSON API, described by its own OpenAPI document."""
