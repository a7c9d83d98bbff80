"""What comes in becomes rows: whole request bodies are read, mapped and appended."""
