"""The three sources of variables: the environment, a file, credentials.

Each reader returns a `Layer`: values by upper-case name, and mistakes. Names are checked here,
values are not. No mistake quotes a value, nor a line of a file.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from relay.settings.describe import (
    PREFIX,
    app_of,
    find_setting,
    is_app_name,
    is_secret,
    nearest_variable,
)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source gave.

    Attributes:
        values: Text by upper-case variable name, without surrounding white space.
        mistakes: One sentence each.
        is_read: Whether the source could be read; if not, a variable that is missing may be
            in it.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    is_read: bool = True


def read_environment(environ: Mapping[str, str]) -> Layer:
    """Return relay's variables of an environment."""
    return _collect(environ.items())


def read_env_file(path: Path) -> Layer:
    """Return relay's variables of a file of `NAME=value` lines.

    Quotes, `export`, comments (`#` and, as in systemd, `;`) and CRLF are understood; `$` has no
    special meaning.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return _unread(f"--env-file {path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return _unread(f"--env-file {path}: cannot be read: it is not UTF-8 text")
    pairs: list[tuple[str, str]] = []
    mistakes: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        if _is_misshapen(binding):
            mistakes.append(f"--env-file {path}, line {_line_of(binding)}: wanted NAME=value")
        elif binding.key is not None and binding.value is not None:
            pairs.append((binding.key, binding.value))
    layer = _collect(pairs)
    return Layer(layer.values, (*mistakes, *layer.mistakes))


def read_credentials(folder: Path) -> Layer:
    """Return the secrets in systemd's credentials: files named like the variables in lower case.

    Credentials whose names do not begin with `relay_` are ignored.

    Source: systemd.exec(5), version 252, "Credentials".
    """
    try:
        ours = sorted(path for path in folder.iterdir() if path.name.upper().startswith(PREFIX))
        pairs = [(path.name, path.read_text(encoding="utf-8")) for path in ours]
    except OSError as error:
        return _unread(f"CREDENTIALS_DIRECTORY {folder}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return _unread(
            f"CREDENTIALS_DIRECTORY {folder}: cannot be read: a secret is not UTF-8 text"
        )
    layer = _collect(pairs, kind="credential ")
    misplaced = [name for name in layer.values if not is_secret(name)]
    return Layer(
        layer.values,
        layer.mistakes
        + tuple(
            f"credential {name.lower()}: only secrets are taken from credentials; "
            f"wanted {name} in the environment or the file"
            for name in misplaced
        ),
    )


def _unread(mistake: str) -> Layer:
    return Layer(mistakes=(mistake,), is_read=False)


def _collect(pairs: Iterable[tuple[str, str]], kind: str = "") -> Layer:
    values: dict[str, str] = {}
    spellings: dict[str, str] = {}
    mistakes: list[str] = []
    for name, text in pairs:
        variable = name.upper()
        if not variable.startswith(PREFIX):
            continue
        if mistake := _judge_name(name):
            mistakes.append(f"{kind}{mistake}")
            continue
        value = text.strip()
        if spellings.get(variable, name) != name and values[variable] != value:
            mistakes.append(
                f"{kind}{name}: also given as {spellings[variable]}, with another value; wanted one"
            )
        values[variable], spellings[variable] = value, name
    return Layer(values, tuple(mistakes))


def _judge_name(name: str) -> str:
    variable = name.upper()
    shown = name.encode("unicode_escape").decode()
    app = app_of(variable)
    if app is not None and not is_app_name(app):
        return f"{shown}: wanted an app name of letters, digits and single _ between them"
    if find_setting(variable) is not None:
        return ""
    nearest = nearest_variable(variable)
    return f"{shown}: unknown; did you mean {nearest.lower() if name.islower() else nearest}?"


def _is_misshapen(binding: Binding) -> bool:
    if binding.error:
        return not binding.original.string.lstrip().startswith(";")
    is_ours = binding.key is not None and binding.key.upper().startswith(PREFIX)
    return is_ours and binding.value is None


def _line_of(binding: Binding) -> int:
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
