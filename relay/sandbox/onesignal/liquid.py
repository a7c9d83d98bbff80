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


@dataclass(slots=True)
class _Page:
    """What was printed so far, and whether that ends between quotes."""

    context: Mapping[str, object]
    escapes: bool
    parts: list[str] = field(default_factory=list)
    is_quoted: bool = False

    def look_up(self, path: list[str]) -> object:
        value: object = self.context
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


_Node: TypeAlias = Callable[[_Page], None]


class Template:
    """A compiled body.

    Raises:
        TemplateError: If the text is not in the part of Liquid known here.
    """

    def __init__(self, text: str) -> None:
        self._render, end, _ = _parse(iter(_TOKEN.split(text)))
        if end:
            raise TemplateError(f"unexpected {end}")

    def render(self, context: Mapping[str, object], *, escapes: bool = True) -> str:
        """Return the body for one event; `escapes` escapes printed values for JSON."""
        page = _Page(context, escapes)
        self._render(page)
        return "".join(page.parts)


def _parse(tokens: Iterator[str]) -> tuple[_Node, str, str]:
    """Compile up to a tag that ends or continues a block; return its word and the rest too."""
    nodes: list[_Node] = []

    def render(page: _Page) -> None:
        for node in nodes:
            node(page)

    for token in tokens:
        word, rest = (*token[2:-2].strip("- ").split(maxsplit=1), "", "")[:2]
        if token.startswith("{{"):
            nodes.append(_print(token[2:-2].strip("- ")))
        elif not token.startswith("{%"):
            nodes.append(_text(token))
        elif word == "if":
            nodes.append(_branch(tokens, rest))
        elif word in ("elsif", "else", "endif"):
            return render, word, rest
        else:
            raise TemplateError(f"unknown tag {token}")
    return render, "", ""


def _text(text: str) -> _Node:
    # An odd number of quotes turns outside into inside.
    flips = len(_QUOTE.findall(text)) % 2 == 1

    def render(page: _Page) -> None:
        page.parts.append(text)
        page.is_quoted ^= flips

    return render


def _branch(tokens: Iterator[str], condition: str) -> _Node:
    branches: list[tuple[list[str] | None, _Node]] = []
    word = "if"
    while word != "endif":
        path = None if word == "else" else condition.strip().split(".")
        body, word, condition = _parse(tokens)
        if not word:
            raise TemplateError("if without endif")
        branches.append((path, body))

    def render(page: _Page) -> None:
        for path, body in branches:
            if path is None or page.look_up(path) not in (None, False):
                body(page)
                break

    return render


def _print(text: str) -> _Node:
    name, _, tail = text.partition("|")
    path = name.strip().split(".")
    filters = []
    for name, texts in _FILTER.findall(f"|{tail}" if tail else ""):
        if name not in FILTERS:
            raise TemplateError(f"unknown filter {name}")
        arguments = ["".join(groups) for groups in _ARGUMENT.findall(texts)]
        filters.append((FILTERS[name], arguments))

    def render(page: _Page) -> None:
        printed = _to_text(page.look_up(path), is_quoted=page.is_quoted)
        for function, arguments in filters:
            printed = function(printed, *arguments)
        # Filters see the plain value; only their result is escaped.
        if page.escapes and page.is_quoted:
            printed = orjson.dumps(printed).decode()[1:-1]
        page.parts.append(printed)

    return render


def _to_text(value: object, *, is_quoted: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and is_quoted:
        return "{" + ",".join(f"'{key}':'{item}'" for key, item in value.items()) + "}"
    return orjson.dumps(value).decode()
