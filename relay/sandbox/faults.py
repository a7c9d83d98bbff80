"""Faults to switch on: how Amplitude, or what stands before it, misbehaves for a while.

A fault lasts for a number of requests, for some seconds, or until it is cleared. Several
are used up in the order they were added, so a script of misfortunes can be laid down in
advance. A 503 never stores: that is the one promise Amplitude makes about it.
"""

from typing import Final, Literal, TypedDict, Unpack, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from relay.sandbox import answers
from relay.sandbox.answers import Answer
from relay.sandbox.board import Board

FaultName = Literal[
    "403", "404", "408", "413", "429", "500", "502", "503", "504",
    "400_bare", "400_html",
    "200_html", "200_empty", "200_garbage", "200_no_code", "200_code_500", "200_cut",
    "500_code_200",
    "slow", "hang", "reset", "refuse",
]  # fmt: skip
FAULT_NAMES: Final[tuple[str, ...]] = get_args(FaultName)
STORED_PREFIX: Final = "stored_"
_NEVER_STORED: Final = frozenset(
    {"403", "404", "413", "429", "503", "400_bare", "400_html", "refuse"}
)
_ANSWERS: Final[dict[FaultName, Answer]] = {
    "403": answers.forbidden(),
    "404": answers.json_answer(404, {"error": "Not Found"}),
    "408": answers.json_answer(408, {"error": "Request Timeout"}),
    "413": answers.too_large(),
    "429": answers.json_answer(429, {"error": "Too many requests", "eps_threshold": 30}),
    "500": answers.json_answer(500, {"error": "Internal Server Error"}),
    "502": answers.html_answer(502, "502 Bad Gateway"),
    "503": answers.html_answer(503, "503 Service Temporarily Unavailable"),
    "504": answers.html_answer(504, "504 Gateway Time-out"),
    "400_bare": answers.bad_request(answers.INVALID_VALUES),
    "400_html": answers.html_answer(400, "400 Bad Request"),
    "200_html": answers.html_answer(200, "Welcome to nginx!"),
    "200_empty": Answer(200, b""),
    "200_garbage": Answer(200, b"\x00\xff}{ not json \xfe"),
    "200_no_code": Answer(200, b'{"events_ingested":1,"payload_size_bytes":2}'),
    "200_code_500": Answer(200, b'{"code":500,"error":"Internal Server Error"}'),
    "500_code_200": Answer(500, b'{"code":200,"events_ingested":1}'),
}


class FaultLimits(TypedDict, total=False):
    """What may be said of a fault beside its name; see `Fault`."""

    stored: bool
    count: int | None
    seconds: float | None
    api_key: str | None
    retry_after: str | int | None
    delay_s: float


class Fault(BaseModel):
    """One way to misbehave.

    Attributes:
        name: What happens; `stored_NAME` is short for `stored`.
        stored: Whether the events are taken first, as a timeout of a proxy would do.
        count: How many requests it meets; None = any number.
        seconds: How long it lasts from the moment it is added; None = until cleared.
        api_key: The only key it meets; None = every request.
        retry_after: Value of a `Retry-After` header.
        delay_s: How long `slow` waits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    name: FaultName
    stored: bool = False
    count: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    api_key: str | None = None
    retry_after: str | None = None
    delay_s: float = Field(default=15.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _split_name(cls, data: object) -> object:
        """Read `stored_500` as a 500 after storing, and 503 as "503"."""
        name = data.get("name") if isinstance(data, dict) else None
        if isinstance(data, dict) and isinstance(name, str) and name.startswith(STORED_PREFIX):
            return {**data, "name": name.removeprefix(STORED_PREFIX), "stored": True}
        if isinstance(data, dict) and isinstance(name, int):
            return {**data, "name": str(name)}
        return data

    @model_validator(mode="after")
    def _check(self) -> "Fault":
        if self.stored and self.name in _NEVER_STORED:
            raise ValueError(f"{self.name} never stores")
        if self.name == "refuse" and (self.count is not None or self.api_key is not None):
            raise ValueError("refuse closes the whole door: limit it by seconds, not otherwise")
        return self

    @property
    def label(self) -> str:
        """The name with its prefix."""
        return f"{STORED_PREFIX}{self.name}" if self.stored else self.name

    def answer(self) -> Answer | None:
        """Return the answer it gives; None for those that do not simply answer."""
        answer = _ANSWERS.get(self.name)
        if answer is None or self.retry_after is None:
            return answer
        return answer.with_header("Retry-After", self.retry_after)


class FaultBoard(Board[Fault]):
    """The faults that are switched on, in order."""

    def add(self, name: str, **limits: Unpack[FaultLimits]) -> Fault:
        """Switch a fault on, after those that are on already.

        Raises:
            pydantic.ValidationError: If there is no such fault or its limits are nonsense.
        """
        fault = Fault.model_validate({"name": name, **limits})
        self.arm(fault)
        return fault

    def take(self, api_key: str) -> Fault | None:
        """Return the fault the next request of this key meets, and count it."""
        return self.take_first(lambda fault: fault.api_key in (None, api_key))

    def is_refusing(self) -> bool:
        """Tell whether the door is to be closed."""
        return any(fault.name == "refuse" for fault in self.active())
