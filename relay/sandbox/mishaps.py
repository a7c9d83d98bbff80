"""Mishaps to switch on: how a service that is asked for lists and files goes wrong for a while.

They are the faults of Amplitude's cohorts and of OneSignal's export, each met by some
operations only. An upload's faults are in `relay.sandbox.faults`.
"""

from typing import Final, Literal, TypedDict, Unpack, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

from relay.sandbox.answers import Answer, html_answer
from relay.sandbox.board import Board

Operation = Literal["list", "request", "status", "file", "link", "usage", "export", "csv"]
MishapName = Literal[
    "400", "401", "403", "404", "408", "429", "500", "502", "503", "504", "524",
    "200_html", "200_empty", "200_garbage", "hang", "reset", "slow", "drip",
]  # fmt: skip
MISHAP_NAMES: Final[tuple[str, ...]] = get_args(MishapName)
_HONEST: Final = frozenset({"slow", "drip"})
_STRANGE: Final[dict[str, Answer]] = {
    "200_html": html_answer(200, "Welcome to nginx!"),
    "200_empty": Answer(200, b""),
    "200_garbage": Answer(200, b"\x00\xff}{ not json \xfe"),
    "502": html_answer(502, "502 Bad Gateway"),
    "504": html_answer(504, "504 Gateway Time-out"),
}


class MishapLimits(TypedDict, total=False):
    """What may be said of a mishap beside its name; see `Mishap`."""

    operation: Operation | None
    cohort_id: str | None
    stored: bool
    body: Literal["usual", "html", "empty"]
    count: int | None
    seconds: float | None
    retry_after: str | int | None
    delay_s: float


class Mishap(BaseModel):
    """One way to go wrong.

    Attributes:
        name: What happens: a status, a strange 200, or trouble below HTTP. `slow` answers
            late, `drip` a few bytes at a time.
        operation: The only operation that meets it; None = all.
        cohort_id: The only cohort that meets it; None = all.
        stored: Whether the request is carried out before the answer goes wrong.
        body: What a status carries: the service's usual error, a page, or nothing.
        count: How many requests it meets; None = any number.
        seconds: How long it lasts from the moment it is added; None = until cleared.
        retry_after: Value of a `Retry-After` header.
        delay_s: How long `slow` waits, and `drip` between its pieces.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    name: MishapName
    operation: Operation | None = None
    cohort_id: str | None = None
    stored: bool = False
    body: Literal["usual", "html", "empty"] = "usual"
    count: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    retry_after: str | None = None
    delay_s: float = Field(default=15.0, gt=0)

    @field_validator("name", mode="before")
    @classmethod
    def _take_numbers(cls, name: object) -> object:
        """Read 503 as "503"."""
        return str(name) if isinstance(name, int) else name

    @property
    def is_honest(self) -> bool:
        """Whether the answer itself is the true one."""
        return self.name in _HONEST

    def answer(self, usual: Answer) -> Answer:
        """Return what it answers, where the service's usual error of its status is `usual`."""
        answer = _STRANGE.get(self.name, usual)
        if self.body == "html":
            answer = html_answer(answer.status, f"{answer.status} Error")
        elif self.body == "empty":
            answer = Answer(answer.status, b"")
        if self.retry_after is not None:
            answer = answer.with_header("Retry-After", self.retry_after)
        return answer

    @property
    def status(self) -> int | None:
        """The status it answers with; None if it does not answer of its own."""
        if self.name.startswith("200_"):
            return 200
        return int(self.name) if self.name.isdecimal() else None


class MishapBoard(Board[Mishap]):
    """The mishaps that are switched on, in order."""

    def add(self, name: str | int, **limits: Unpack[MishapLimits]) -> Mishap:
        """Switch a mishap on, after those that are on already.

        Raises:
            pydantic.ValidationError: If there is no such mishap or its limits are nonsense.
        """
        mishap = Mishap.model_validate({"name": name, **limits})
        self.arm(mishap)
        return mishap

    def take(self, operation: Operation, cohort_id: str) -> Mishap | None:
        """Return the mishap the next request of this kind meets, and count it."""
        return self.take_first(
            lambda mishap: (
                mishap.operation in (None, operation) and mishap.cohort_id in (None, cohort_id)
            )
        )
