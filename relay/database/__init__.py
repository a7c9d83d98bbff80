"""The SQLite engine: one writer with group commit, one reader, migrations, named queries."""
