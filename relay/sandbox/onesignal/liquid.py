"""The small part of Liquid that Event Streams bodies use, compiled once, rendered often.

Paths, filters and `if`/`elsif`/`else`. A missing value prints as nothing, and only a
missing value or `false` fails a condition. An object prints as JSON, but between quotes
as the pseudo-JSON of OneSignal's documents. Whether OneSignal escapes what it prints for
JSON is not documented, so both ways are available.

Source: OneSignal Event Streams and Liquid references, 2026.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import orjson

_TOKEN: Final = re.compile(r"(\{\{.*?\}\}|\{%.*?%\})", re.DOTALL)
_ARGUMENT: Final = re.compile(r"""'([^']*)'|"([^"]*)"|([\w.-]+)""")
_FILTER: Final = re.compile(r"""\|\s*(\w+)\s*(?::\s*((?:'[^']*'|"[^"]*"|[^|'"])*))?""")
_QUOTE: Final = re.compile(r'(?<!\\)"')

FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "default": lambda text, other: text or other,
    "replace": lambda text, old, new: text.replace(old, new),
    "replace_first": lambda text, old, new: text.replace(old, new, 1),
    "upcase": str.upper,
    "downcase": str.lower,
    "strip": str.strip,
    "append": lambda text, tail: text + tail,
    "prepend": lambda text, head: head + text,
}


class TemplateError(ValueError):
    """A template uses what is not known here."""


_Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Print:
    path: _Path
    filters: list[tuple[str, list[str]]]


@dataclass(frozen=True, slots=True)
class _Branches:
    branches: list[tuple[_Path | None, "list[_Node]"]] = field(default_factory=list)


_Node: TypeAlias = str | _Print | _Branches


@dataclass(slots=True)
class _Page:
    """What was printed so far, and whether that ends between quotes."""

    context: Mapping[str, object]
    escapes: bool
    parts: list[str] = field(default_factory=list)
    is_quoted: bool = False


class Template:
    """A compiled body.

    Raises:
        TemplateError: If the text is not in the part of Liquid known here.
    """

    def __init__(self, text: str) -> None:
        self._nodes, end, _ = _parse(iter(_TOKEN.split(text)))
        if end:
            raise TemplateError(f"unexpected {end}")

    def render(self, context: Mapping[str, object], *, escapes: bool = True) -> str:
        """Return the body for one event.

        Args:
            context: What paths lead into.
            escapes: Whether printed values are escaped for JSON.
        """
        page = _Page(context, escapes)
        _render(self._nodes, page)
        return "".join(page.parts)


def _parse(tokens: Iterator[str]) -> tuple[list[_Node], str, str]:
    """Return the nodes up to a tag that ends or continues a block, its word and the rest."""
    nodes: list[_Node] = []
    for token in tokens:
        word, rest = (*token[2:-2].strip("- ").split(maxsplit=1), "", "")[:2]
        if token.startswith("{{"):
            nodes.append(_parse_print(token))
        elif not token.startswith("{%"):
            nodes.append(token)
        elif word == "if":
            nodes.append(_parse_if(tokens, rest))
        elif word in ("elsif", "else", "endif"):
            return nodes, word, rest
        else:
            raise TemplateError(f"unknown tag {token}")
    return nodes, "", ""


def _parse_if(tokens: Iterator[str], condition: str) -> _Branches:
    block, word = _Branches(), "if"
    while word != "endif":
        path = None if word == "else" else _path(condition)
        nodes, word, condition = _parse(tokens)
        if not word:
            raise TemplateError("if without endif")
        block.branches.append((path, nodes))
    return block


def _parse_print(token: str) -> _Print:
    path, _, tail = token[2:-2].strip("- ").partition("|")
    filters = []
    for name, arguments in _FILTER.findall(f"|{tail}" if tail else ""):
        if name not in FILTERS:
            raise TemplateError(f"unknown filter {name}")
        filters.append((name, ["".join(groups) for groups in _ARGUMENT.findall(arguments)]))
    return _Print(_path(path), filters)


def _path(text: str) -> _Path:
    return tuple(text.strip().split("."))


def _render(nodes: list[_Node], page: _Page) -> None:
    for node in nodes:
        if isinstance(node, str):
            page.parts.append(node)
            # An odd number of quotes turns outside into inside.
            page.is_quoted ^= len(_QUOTE.findall(node)) % 2 == 1
        elif isinstance(node, _Print):
            page.parts.append(_print(node, page))
        else:
            for path, branch in node.branches:
                if path is None or _look_up(page.context, path) not in (None, False):
                    _render(branch, page)
                    break


def _print(node: _Print, page: _Page) -> str:
    # Filters see the plain value; only their result is escaped.
    text = _to_text(_look_up(page.context, node.path), is_quoted=page.is_quoted)
    for name, arguments in node.filters:
        text = FILTERS[name](text, *arguments)
    if page.escapes and page.is_quoted:
        return orjson.dumps(text).decode()[1:-1]
    return text


def _look_up(context: Mapping[str, object], path: _Path) -> object:
    value: object = context
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _to_text(value: object, *, is_quoted: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and is_quoted:
        return "{" + ",".join(f"'{key}':'{item}'" for key, item in value.items()) + "}"
    return orjson.dumps(value).decode()
