"""Recovery's SQL, loaded once."""

from importlib.resources import files
from typing import Final

from relay.database.queries import load_queries

SQL: Final = load_queries(files("relay.database.recovery").joinpath("queries.sql"))
