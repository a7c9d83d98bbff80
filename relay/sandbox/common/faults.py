"""Every fault that can be switched on: how a service, or a proxy before it, misbehaves.

A fault lasts for a number of requests, for some seconds, or until it is cleared. What the
bodies of the errors look like is the stand-in's matter; that an answer is late, cut,
strange or missing is the same everywhere.
"""

from collections.abc import Callable
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from relay.sandbox.common.replies import Answer, html_answer

STORED_PREFIX: Final = "stored_"
CLOSED_DOOR: Final = "refuse"
UploadFaultName = Literal[
    "403", "404", "408", "413", "429", "500", "502", "503", "504",
    "400_bare", "400_html",
    "200_html", "200_empty", "200_garbage", "200_no_code", "200_code_500", "200_cut",
    "500_code_200",
    "slow", "hang", "reset", "refuse",
]  # fmt: skip
ApiFaultName = Literal[
    "400", "401", "403", "404", "408", "429", "500", "502", "503", "504", "524",
    "200_html", "200_empty", "200_garbage", "hang", "reset", "slow", "drip",
]  # fmt: skip
UPLOAD_FAULT_NAMES: Final[tuple[str, ...]] = get_args(UploadFaultName)
API_FAULT_NAMES: Final[tuple[str, ...]] = get_args(ApiFaultName)
Operation = Literal["list", "request", "status", "file", "link", "usage", "export", "csv"]

_NEVER_STORED: Final = frozenset(
    {"403", "404", "413", "429", "503", "400_bare", "400_html", CLOSED_DOOR}
)
_PROXY_ANSWERS: Final = {
    "200_html": html_answer(200, "Welcome to nginx!"),
    "200_empty": Answer(200, b""),
    "200_garbage": Answer(200, b"\x00\xff}{ not json \xfe"),
    "502": html_answer(502, "502 Bad Gateway"),
    "504": html_answer(504, "504 Gateway Time-out"),
}


class Fault(BaseModel):
    """One way to misbehave.

    Attributes:
        name: What happens; `stored_NAME` is short for `stored`. A status, a strange answer,
            or trouble below HTTP: `slow` answers late, `drip` a few bytes at a time, `hang`
            never, `reset` breaks the connection, `refuse` accepts none.
        stored: Whether the request is carried out before the answer goes wrong, as when a
            proxy times out.
        count: Number of requests it meets; None = any number.
        seconds: How long it lasts from the moment it is added; None = until cleared.
        retry_after: Value of a `Retry-After` header.
        delay_s: How long `slow` waits, and `drip` between its pieces.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    name: str
    stored: bool = False
    count: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    retry_after: str | None = None
    delay_s: float = Field(default=15.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _read_name(cls, data: object) -> object:
        """Read `stored_500` as a 500 after storing, and 503 as "503"."""
        if not isinstance(data, dict) or not isinstance(data.get("name"), str | int):
            return data
        name = str(data["name"])
        if name.startswith(STORED_PREFIX):
            return {**data, "name": name.removeprefix(STORED_PREFIX), "stored": True}
        return {**data, "name": name}

    @property
    def closes_door(self) -> bool:
        """Whether connections are refused, so that no request can meet this fault."""
        return self.name == CLOSED_DOOR

    @property
    def label(self) -> str:
        """The name with its prefix."""
        return f"{STORED_PREFIX}{self.name}" if self.stored else self.name

    def answer(self, wording: Callable[[str], Answer | None]) -> Answer | None:
        """Return what is answered; None for trouble below HTTP.

        Args:
            wording: Returns the service's own answer to a fault of this name.
        """
        answer = _PROXY_ANSWERS.get(self.name) or wording(self.name)
        if answer is None or self.retry_after is None:
            return answer
        return answer.with_header("Retry-After", self.retry_after)


class UploadFault(Fault):
    """A fault of Amplitude's upload APIs.

    A 503 never stores: that is the one promise Amplitude makes about it.

    Attributes:
        api_key: The only key it meets; None = every request.
    """

    name: UploadFaultName
    api_key: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "UploadFault":
        if self.stored and self.name in _NEVER_STORED:
            raise ValueError(f"{self.name} never stores")
        if self.closes_door and (self.count is not None or self.api_key is not None):
            raise ValueError("refuse closes the whole door: limit it by seconds, not otherwise")
        return self


class ApiFault(Fault):
    """A fault of the services that are asked for lists and files.

    Attributes:
        operation: The only operation that meets it; None = all.
        cohort_id: The only cohort that meets it; None = all.
        body: What a status carries: the service's usual error, a page, or nothing.
    """

    name: ApiFaultName
    operation: Operation | None = None
    cohort_id: str | None = None
    body: Literal["usual", "html", "empty"] = "usual"

    def answer(self, wording: Callable[[str], Answer | None]) -> Answer | None:
        """Return what is answered; None for trouble below HTTP."""
        answer = super().answer(wording)
        if answer is None or self.body == "usual":
            return answer
        if self.body == "empty":
            return Answer(answer.status, b"", headers=answer.headers)
        page = html_answer(answer.status, f"{answer.status} Error")
        return Answer(page.status, page.body, page.content_type, answer.headers)
