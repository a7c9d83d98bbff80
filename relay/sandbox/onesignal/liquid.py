"""The small part of Liquid that Event Streams bodies use, compiled once, rendered often.

Paths, filters and `if`/`elsif`/`else`. A missing value prints as nothing, and only a
missing value or `false` fails a condition. An object prints as JSON, but between quotes
as the pseudo-JSON OneSignal's papers show. Whether OneSignal escapes what it prints for
JSON is not documented, so both ways can be had.

Source: OneSignal Event Streams and Liquid references, 2026.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

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
    """A template uses what it may not."""


@dataclass(slots=True)
class _Print:
    path: tuple[str, ...]
    filters: list[tuple[str, list[str]]]


@dataclass(slots=True)
class _Branches:
    branches: list[tuple[tuple[str, ...] | None, list["_Node"]]] = field(default_factory=list)


_Node = str | _Print | _Branches


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
        tokens = [token for token in _TOKEN.split(text) if token]
        self._nodes, rest = _parse(tokens, 0)
        if rest != len(tokens):
            raise TemplateError(f"unexpected {tokens[rest]}")

    def render(self, context: Mapping[str, object], *, escapes: bool = True) -> str:
        """Return the body for one event.

        Args:
            context: What paths lead into.
            escapes: Whether printed values are escaped for JSON.
        """
        page = _Page(context, escapes)
        _render(self._nodes, page)
        return "".join(page.parts)


def _parse(tokens: list[str], start: int) -> tuple[list[_Node], int]:
    """Return the nodes up to a tag that ends or continues a block, and its position."""
    nodes: list[_Node] = []
    at = start
    while at < len(tokens):
        token = tokens[at]
        word = token[2:-2].strip("- ").split(maxsplit=1) if token.startswith("{%") else []
        if token.startswith("{{"):
            nodes.append(_parse_print(token))
        elif not word:
            nodes.append(token)
        elif word[0] == "if":
            block, at = _parse_if(tokens, at)
            nodes.append(block)
        elif word[0] in ("elsif", "else", "endif"):
            break
        else:
            raise TemplateError(f"unknown tag {token}")
        at += 1
    return nodes, at


def _parse_if(tokens: list[str], at: int) -> tuple[_Branches, int]:
    block = _Branches()
    while True:
        if at >= len(tokens):
            raise TemplateError("if without endif")
        word, *rest = tokens[at][2:-2].strip("- ").split(maxsplit=1)
        if word == "endif":
            return block, at
        path = tuple(rest[0].strip().split(".")) if rest else None
        nodes, at = _parse(tokens, at + 1)
        block.branches.append((path, nodes))


def _parse_print(token: str) -> _Print:
    path, _, tail = token[2:-2].strip("- ").partition("|")
    filters = []
    for name, arguments in _FILTER.findall(f"|{tail}" if tail else ""):
        if name not in FILTERS:
            raise TemplateError(f"unknown filter {name}")
        texts = ["".join(groups) for groups in _ARGUMENT.findall(arguments)]
        filters.append((name, texts))
    return _Print(tuple(path.strip().split(".")), filters)


def _render(nodes: list[_Node], page: _Page) -> None:
    for node in nodes:
        if isinstance(node, str):
            page.parts.append(node)
            page.is_quoted ^= len(_QUOTE.findall(node)) % 2 == 1
        elif isinstance(node, _Print):
            page.parts.append(_print(node, page))
        else:
            for path, branch in node.branches:
                if path is None or _look_up(page.context, path) not in (None, False):
                    _render(branch, page)
                    break


def _print(node: _Print, page: _Page) -> str:
    text = _to_text(_look_up(page.context, node.path), is_quoted=page.is_quoted)
    for name, arguments in node.filters:
        text = FILTERS[name](text, *arguments)
    if page.escapes and page.is_quoted:
        return orjson.dumps(text).decode()[1:-1]
    return text


def _look_up(context: Mapping[str, object], path: tuple[str, ...]) -> object:
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
