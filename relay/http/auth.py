"""Secrets that open a door, compared in constant time."""

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from aiohttp import web

BEARER = "bearer "


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogateescape")).digest()


class Tokens:
    """Secrets any one of which is enough.

    Digests of one length are compared, and always all of them, so that the time taken
    tells nothing about a token's text, length or place.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.renew(tokens)

    def renew(self, tokens: Iterable[str]) -> None:
        """Take others from now on."""
        self._digests = [_digest(token) for token in tokens]

    @property
    def are_none(self) -> bool:
        """Whether there is no secret at all, so that nobody can present one."""
        return not self._digests

    def admit(self, presented: Iterable[str]) -> bool:
        """Return whether one of the presented tokens is one of these."""
        admitted = False
        for token in presented:
            digest = _digest(token)
            for known in self._digests:
                admitted |= compare_digest(digest, known)
        return admitted


NOBODY = Tokens([""])
"""Stands for an unknown app, so that its refusal takes as long as a wrong token's."""


def presented_tokens(request: web.BaseRequest, header: str | None = None) -> list[str]:
    """Return the tokens a request carries, as bearer or in the header of that name."""
    tokens = []
    authorization = request.headers.get("Authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        tokens.append(authorization[len(BEARER) :].strip())
    if header and header in request.headers:
        tokens.append(request.headers[header].strip())
    return [token for token in tokens if token]
