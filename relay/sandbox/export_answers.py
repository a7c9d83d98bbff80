"""What OneSignal's REST API answers around its exports.

Source: OneSignal REST reference and its Python client, 2026; answers third-party clients
were made to cope with.
"""

from typing import Final

import orjson

from relay.sandbox.answers import Answer

ACCESS_DENIED: Final = (
    "Access denied.  Please include an 'Authorization: ...' header with a valid API key "
    "(https://documentation.onesignal.com/docs/en/keys-and-ids#api-keys)."
)
NO_APP: Final = "Request is malformed: Failed to parse app_id from request"
NO_HEADER: Final = "Please include a case-sensitive header of Authorization"
BUSY: Final = (
    "User already running another CSV export. Please wait until your other CSV exporter "
    "finishes and try again."
)
_USUAL: Final = {
    403: ACCESS_DENIED,
    429: "API rate limit exceeded.",
    503: "Service temporarily unavailable",
}


def errors(status: int, text: str | None = None) -> Answer:
    """Return the list of one text, the shape of most endpoints."""
    told = text or _USUAL.get(status, "Something went wrong")
    return Answer(status, orjson.dumps({"errors": [told]}))


def missing_key(status: int) -> Answer:
    """Return the refusal of a request without `Authorization`, as three generations give it."""
    if status == 401:  # noqa: PLR2004 - HTTP statuses are better read as numbers
        title = "This operation requires 'Authorization' in the HTTP header"
        body = {"errors": [{"code": "auth-1", "title": title}]}
        return Answer(status, orjson.dumps(body))
    return errors(status, NO_HEADER if status == 400 else None)  # noqa: PLR2004 - as above


def no_segments() -> Answer:
    """Return the list of the segments of an app that has none."""
    return Answer(200, orjson.dumps({"total_count": 0, "offset": 0, "limit": 1, "segments": []}))


def file_url(url: str | None) -> Answer:
    """Return where the file will be; None = the answer that forgets to say."""
    return Answer(200, orjson.dumps({} if url is None else {"csv_file_url": url}))
