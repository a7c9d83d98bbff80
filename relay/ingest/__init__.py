"""The way in: whole request bodies are read, mapped and appended to the outbox."""
