"""The SQLite engine: one writer with group commit, one reader, named queries, and recovery."""
