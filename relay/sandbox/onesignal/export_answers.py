"""What OneSignal's REST API answers around its exports.

Source: OneSignal REST reference and its Python client, 2026; answers that third-party
clients were made to cope with.
"""

from typing import Final

from relay.sandbox.common.replies import Answer, json_answer

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
    """Return a list of one error text, the shape of most endpoints."""
    return json_answer(status, {"errors": [text or _USUAL.get(status, "Something went wrong")]})


def missing_key(status: int) -> Answer:
    """Return the refusal of a request without `Authorization`, in one of its three versions."""
    if status == 401:  # noqa: PLR2004 - HTTP statuses are better read as numbers
        title = "This operation requires 'Authorization' in the HTTP header"
        return json_answer(status, {"errors": [{"code": "auth-1", "title": title}]})
    return errors(status, NO_HEADER if status == 400 else None)  # noqa: PLR2004 - as above


def no_segments() -> Answer:
    """Return the segment list of an app without segments."""
    return json_answer(200, {"total_count": 0, "offset": 0, "limit": 1, "segments": []})


def file_url(url: str | None) -> Answer:
    """Return where the file will be; None = an answer without the URL."""
    return json_answer(200, {} if url is None else {"csv_file_url": url})
