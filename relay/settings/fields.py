"""What the settings' classes are built from: kinds of field, and hints to describe them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from relay.settings.values import parse_address, parse_secret

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Hint:
    """What the type of a setting cannot say for itself.

    Attributes:
        wanted: What a value must be, to follow "wanted"; empty where the type says it.
        default: How the default is written, where its value does not say it.
        is_secret: Whether a value must never be shown.
    """

    wanted: str = ""
    default: str = ""
    is_secret: bool = False


def from_text(parse: Callable[[str], object]) -> BeforeValidator:
    """Parse text; let through what is already a value."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


LOWER_CASE = from_text(str.lower)
ADDRESS = (from_text(parse_address), Hint("host:port, such as 127.0.0.1:8080 or [::1]:8080"))
FILE = Hint("the path of a file")
SECRET = (from_text(parse_secret), Hint("one line of text", is_secret=True))
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Ratio = Annotated[float, Field(allow_inf_nan=False)]


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
