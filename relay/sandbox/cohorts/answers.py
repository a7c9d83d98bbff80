"""What Amplitude's cohorts API answers.

An error of this API is an object, unlike the string of the upload APIs.

Source: Amplitude Behavioral Cohorts API reference, 2026-03 to 2026-11; bodies of wrong
keys as public connectors have seen them, 2026-10.
"""

from typing import Final

from relay.sandbox.cohorts.conditions import UsageShape
from relay.sandbox.common.replies import Answer, json_answer

UNKNOWN_KEY: Final = "Invalid API Key"
WRONG_PAIR: Final = "Invalid API/Secret Key combination"
_DETAILS: Final = {
    400: "Bad request",
    401: "Authorization is missing",
    403: WRONG_PAIR,
    404: "Not found",
    429: "Too many requests",
}


def error(status: int, details: str | None = None) -> Answer:
    """Return the error object of a status."""
    text = details or _DETAILS.get(status, "Unexpected error")
    body = {"http_code": status, "type": "unspecified", "metadata": {"details": text}}
    return json_answer(status, {"error": body})


def usage(shape: UsageShape, limit: int, used: int, resets_at: str) -> Answer:
    """Return what is left of the month, in one of the two shapes that were seen."""
    if shape == "flat":
        return json_answer(200, {"limit": limit, "count": used})
    return json_answer(
        200, {"rest_download": {"limit": limit, "usage": used, "resets_at": resets_at}}
    )


def moved(url: str) -> Answer:
    """Return the redirect to a file in the object storage."""
    return Answer(302, b"", "text/html", {"Location": url})
