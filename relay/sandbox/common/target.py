"""Where stand-ins send requests of their own, and the seeded ids in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from yarl import URL


@dataclass(frozen=True, slots=True)
class Target:
    """One hook.

    Attributes:
        url: The hook, such as `http://HOST/v1/apps/APP/events`.
        token: Sent as a bearer token; empty = no such header.
        headers: Further headers.
    """

    url: URL | str
    token: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def all_headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Content-Type": "application/json", **bearer, **self.headers}

    def redirected(self, url: str | None, token: str | None) -> "Target":
        """Return this target with what an order names instead."""
        return Target(url or self.url, self.token if token is None else token)


def new_uuid(rng: Random) -> str:
    """Return a version 4 UUID drawn from `rng`."""
    return str(UUID(int=rng.getrandbits(128), version=4))
