"""JSON documents made from others: a value, a name or a position changes, not a byte."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final, TypeAlias

Slot: TypeAlias = tuple[Any, Any]
"""A list or object, and a place in it."""

VALUES: Final[tuple[object, ...]] = (
    *(None, True, False, "", " ", "\0", "\t", "\ud83d", "null", "0", "-1", "1e3", "é" * 1_030),
    *(0, 1, -1, 0.5, 1e308, -0.0, 2**53, 2**63, 2**64, 10**30, 253_402_300_800, "1767261906.4"),
    *([], {}, [[]], "{'en':'a','de':'b'}", '{"en":"a"}', "2026-01-01T10:05:06.412Z", "x" * 257),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "true", "unknown", "f", "١٢"),
)
DEPTHS: Final = (1, 2, 250, 260, 980, 1_010, 1_030)


def mutate(data: bytes, names: Sequence[str], max_bytes: int, rng: Random) -> bytes | None:
    """Return another document of at most `max_bytes`, None if the data is no document.

    Args:
        data: The document.
        names: Names that mean something to the reader.
        max_bytes: Limit of the result.
        rng: Seeded chance.
    """
    try:
        document = json.loads(data)
        root = [document]
        for _ in range(rng.choice((1, 1, 2, 4))):
            _change(root, names, rng)
        text = json.dumps(root[0], ensure_ascii=rng.random() < 0.7).encode(errors="replace")
    except (ValueError, RecursionError):
        return None
    if rng.random() < 0.05:
        text = _nest(text, rng)
    return text if len(text) <= max_bytes else None


def _change(root: list[Any], names: Sequence[str], rng: Random) -> None:
    slots = list(_slots(root))
    holder, place = rng.choice(slots)
    other, elsewhere = rng.choice(slots)
    value, another = holder[place], _copy(other[elsewhere])
    match rng.randrange(7):
        case 0 | 1:
            holder[place] = _copy(rng.choice((*VALUES, *names)))
        case 2 if isinstance(value, dict):
            value[rng.choice(names)] = _copy(rng.choice((*VALUES, *names, another)))
        case 2 if isinstance(value, list):
            value.append(_copy(rng.choice((*VALUES, *names, *value))))
        case 3 if holder is not root:
            del holder[place]
        case 4 if isinstance(holder, dict):
            holder[rng.choice(names)] = holder.pop(place)
        case 5:
            holder[place] = json.dumps(value)
        case 6:
            holder[place] = rng.choice(([value], {rng.choice(names): value}))
        case _:
            holder[place] = another


def _copy(value: object) -> Any:  # noqa: ANN401  # of the same type
    """Return an independent copy of a value: a document has no cycles."""
    return json.loads(json.dumps(value))


def _slots(root: list[Any]) -> list[Slot]:
    found: list[Slot] = []
    rest: list[Any] = [root]
    while rest:
        holder = rest.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                rest.append(holder[key])
    return found


def _nest(text: bytes, rng: Random) -> bytes:
    """Nest a document deep inside another one."""
    depth = rng.choice(DEPTHS)
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"error":"x","a":', b"}")))
    return opening * depth + text + closing * depth
