"""What Amplitude's cohorts API and its object storage answer.

An error of this API is an object, unlike the string of the upload APIs.

Source: Amplitude Behavioral Cohorts API reference, 2026-03 to 2026-11; bodies of wrong
keys as public connectors have seen them, 2026-10; Amazon S3 error codes.
"""

from typing import Final, Literal

import orjson

from relay.sandbox.answers import Answer, JsonObject

UNKNOWN_KEY: Final = "Invalid API Key"
WRONG_PAIR: Final = "Invalid API/Secret Key combination"
_DETAILS: Final = {
    400: "Bad request",
    401: "Authorization is missing",
    403: WRONG_PAIR,
    404: "Not found",
    429: "Too many requests",
}
UsageShape = Literal["nested", "flat"]


def plain_json(status: int, body: JsonObject) -> Answer:
    """Return `body` as it is."""
    return Answer(status, orjson.dumps(body))


def refusal(status: int, details: str | None = None) -> Answer:
    """Return the object error of a status."""
    told = details or _DETAILS.get(status, "Unexpected error")
    return plain_json(
        status,
        {"error": {"http_code": status, "type": "unspecified", "metadata": {"details": told}}},
    )


def usage(shape: UsageShape, limit: int, used: int, resets: str) -> Answer:
    """Return what is left of the month, in either of the shapes that were seen."""
    if shape == "flat":
        return plain_json(200, {"limit": limit, "count": used})
    return plain_json(200, {"rest_download": {"limit": limit, "usage": used, "resets_at": resets}})


def storage_error(status: int, code: str = "", text: str = "") -> Answer:
    """Return the XML of an object storage."""
    named = code or {403: "AccessDenied", 404: "NoSuchKey"}.get(status, "InternalError")
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{named}</Code><Message>{text or named}</Message></Error>"
    )
    return Answer(status, body.encode(), "application/xml")


def moved(url: str) -> Answer:
    """Return the redirect to a file in the object storage."""
    return Answer(302, b"", "text/html", {"Location": url})
