"""Titles and contents of a message: one text, or a text for each language.

OneSignal sends a title as plain text, as an object by language code, or as that object printed
into a string, with single quotes and nothing escaped. This file decides which language is shown.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from relay.events.texts import text_of

Wording = str | dict[str, str]
"""A plain text (perhaps a printed object), or texts by language code; never blank."""

_FALLBACK_LANGUAGE: Final = "en"

# The printed object: {'en':'Don't miss it','zh-Hans':'…'}. A quote inside a text is only the
# text's end when a comma and another language code follow. No JSON begins like that.
# Source: OneSignal, Event Streams data reference (the quoted `message.title` of a push), 2026.
_QUOTE: Final = r"""['"]"""
_CODE: Final = r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*"
_ENTRY: Final = rf"'({_CODE})'\s*:\s*{_QUOTE}"
_FIRST_ENTRY: Final = re.compile(rf"\{{\s*{_ENTRY}")
_NEXT_ENTRY: Final = re.compile(rf"{_QUOTE}\s*,\s*{_ENTRY}")
_END: Final = re.compile(rf"{_QUOTE}\s*\}}$")
_IS_CODE: Final = re.compile(_CODE).fullmatch


def wording_of(value: object) -> Wording | None:
    """Return the text or texts of a JSON value, or None if it has none."""
    if isinstance(value, dict):
        return _texts_by_language(value)
    text = text_of(value)
    if text is None or not text.lstrip().startswith("{"):
        return text
    texts = _from_quotes(text.strip()) or _from_json(text)
    return text if texts is None else _texts_by_language(texts)


def choose_text(wording: Wording | None, languages: Sequence[str]) -> str | None:
    """Return the text of the first preferred language, else the English, else the first one.

    Args:
        wording: The text or texts.
        languages: Language codes in order of preference; `de-AT` also accepts `de`.
    """
    if not isinstance(wording, dict):
        return wording
    by_code = {_plain_code(code): text for code, text in wording.items()}
    for language in (*languages, _FALLBACK_LANGUAGE):
        code = _plain_code(language)
        text = by_code.get(code) or by_code.get(code.partition("-")[0])
        if text is not None:
            return text
    return next(iter(wording.values()))


def _plain_code(code: str) -> str:
    return code.strip().lower().replace("_", "-")


def _from_quotes(printed: str) -> dict[str, object] | None:
    """Return the texts of an object printed with single quotes, or None for anything else."""
    first = _FIRST_ENTRY.match(printed)
    end = _END.search(printed, first.end()) if first else None
    if first is None or end is None:
        return None
    text, *rest = _NEXT_ENTRY.split(printed[first.end() : end.start()])
    return {first[1]: text} | dict(zip(rest[::2], rest[1::2], strict=True))


def _from_json(printed: str) -> dict[str, object] | None:
    """Return the texts of an object by language printed as JSON, or None for anything else."""
    try:
        document: dict[str, object] = orjson.loads(printed)
    except orjson.JSONDecodeError:
        return None
    return document if all(map(_IS_CODE, document)) else None


def _texts_by_language(texts: Mapping[str, object]) -> dict[str, str] | None:
    return {
        code: text for code, value in texts.items() if (text := text_of(value)) is not None
    } or None
