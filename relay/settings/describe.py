"""Every setting in words: what help, checks and tables are generated from.

Derived from `relay.settings.model`, so that it cannot contradict it.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relay.settings.app import AppSettings
from relay.settings.model import Settings
from relay.settings.values import RESTART, Hint

PREFIX: Final = "RELAY_"
APP_PREFIX: Final = "RELAY_APPS__"
_ANY_APP: Final = "<APP>"
_APP_NAME: Final = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)*")
_APP_VARIABLE: Final = re.compile(rf"{APP_PREFIX}(?P<app>.*?)__(?P<field>.*)")


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One setting, in words.

    Attributes:
        variable: Its full name; `<APP>` stands for an app's name.
        default: The default as text, `none`, or `required`.
        meaning: A sentence.
        wanted: What a value must be.
        is_required: Whether relay refuses to start without it.
        is_secret: Whether it may come from a credential, and must not appear in any output.
        takes_restart: Whether a running daemon keeps its old value when it reloads.
    """

    variable: str
    default: str
    meaning: str
    wanted: str
    is_required: bool
    is_secret: bool
    takes_restart: bool


@cache
def describe_settings() -> tuple[SettingDescription, ...]:
    """Return every setting, in the order of the model."""
    return tuple(_walk(Settings, PREFIX))


@cache
def _by_variable() -> MappingProxyType[str, SettingDescription]:
    return MappingProxyType({setting.variable: setting for setting in describe_settings()})


def find_setting(variable: str) -> SettingDescription | None:
    """Return the setting of an upper-case variable name, or `None` if it is unknown.

    Any app name will do; `is_app_name` checks it.
    """
    parts = _APP_VARIABLE.fullmatch(variable)
    return _by_variable().get(f"{APP_PREFIX}{_ANY_APP}__{parts['field']}" if parts else variable)


def is_required(variable: str) -> bool:
    """Return whether relay refuses to start without a variable."""
    setting = find_setting(variable)
    return setting is not None and setting.is_required


def is_secret(variable: str) -> bool:
    """Return whether a variable's value must not be shown; an unknown one's must not either."""
    setting = find_setting(variable)
    return setting is None or setting.is_secret


def app_of(variable: str) -> str | None:
    """Return the app's name in `RELAY_APPS__<APP>__…`, or `None` in another variable."""
    parts = _APP_VARIABLE.fullmatch(variable)
    return parts["app"] if parts else None


def is_app_name(name: str) -> bool:
    """Return whether an upper-case name consists of letters, digits and single `_`."""
    return _APP_NAME.fullmatch(name) is not None


def nearest_variable(variable: str) -> str:
    """Return the known name most similar to an unknown one, with the same app."""
    app = app_of(variable) or _ANY_APP
    known = [setting.variable.replace(_ANY_APP, app) for setting in describe_settings()]
    return difflib.get_close_matches(variable, known, n=1, cutoff=0.0)[0]


def _walk(model: type[BaseModel], prefix: str) -> Iterator[SettingDescription]:
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        if name == "apps":
            yield from _walk(AppSettings, f"{variable}__{_ANY_APP}__")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, f"{variable}__")
        else:
            yield _describe(variable, field)


def _describe(variable: str, field: FieldInfo) -> SettingDescription:
    hint = next((item for item in field.metadata if isinstance(item, Hint)), Hint())
    return SettingDescription(
        variable=variable,
        default=hint.default or _write_default(field),
        meaning=field.description or "",
        wanted=hint.wanted or _wanted_by_type(field),
        is_required=field.is_required() and not hint.default,
        is_secret=hint.is_secret,
        takes_restart=takes_restart(field),
    )


def takes_restart(field: FieldInfo) -> bool:
    """Return whether a setting is read only at the start, as its field says."""
    return RESTART in field.metadata


def _write_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case None:
            return "none"
        case bool() as flag:
            return str(flag).lower()
        case float() as number:
            return _write_number(number)
        case other:
            return str(other)


def _wanted_by_type(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        *others, last = get_args(field.annotation)
        return f"{', '.join(others)} or {last}"
    if field.annotation is bool:
        return "true or false"
    noun = "a number" if field.annotation is float else "a whole number"
    return f"{noun}{_write_bounds(field)}"


def _write_bounds(field: FieldInfo) -> str:
    words: list[str] = []
    for item in field.metadata:
        match item:
            case Ge(ge=float() | int() as bound):
                words.append(f"at least {_write_number(bound)}")
            case Gt(gt=float() | int() as bound):
                words.append(f"above {_write_number(bound)}")
            case Le(le=float() | int() as bound):
                words.append(f"at most {_write_number(bound)}")
            case Lt(lt=float() | int() as bound):
                words.append(f"below {_write_number(bound)}")
    return f", {' and '.join(words)}" if words else ""


def _write_number(number: float) -> str:
    return f"{number:.10g}"
