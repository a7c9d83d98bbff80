"""The segment table's SQL, loaded once."""

from importlib.resources import files

from relay.database.migrations import find_migrations
from relay.database.queries import load_queries

FILES = (
    "cohorts",
    "directory",
    "erasure",
    "lists",
    "read_model",
    "retention",
    "runs",
    "views",
    "webhook",
)

SQL = {
    name: query
    for file in FILES
    for name, query in load_queries(files("relay.segments").joinpath(f"{file}.sql")).items()
}
MIGRATIONS = find_migrations(files("relay.segments").joinpath("schema"))
