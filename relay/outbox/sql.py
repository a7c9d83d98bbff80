"""The outbox's SQL, loaded once."""

from importlib.resources import files

from relay.database.migrations import find_migrations
from relay.database.queries import load_queries

SQL = load_queries(files("relay.outbox").joinpath("queries.sql"))
MIGRATIONS = find_migrations(files("relay.outbox").joinpath("schema"))
