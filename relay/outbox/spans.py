"""Sets of sequence numbers as spans, `[[first, last], …]`: claims are mostly unbroken runs."""

from collections.abc import Iterable, Iterator

import orjson


def encode_spans(seqs: Iterable[int]) -> str:
    """Return the JSON text of the spans that cover exactly `seqs`."""
    spans: list[list[int]] = []
    for seq in sorted(seqs):
        if spans and seq == spans[-1][1] + 1:
            spans[-1][1] = seq
        else:
            spans.append([seq, seq])
    return orjson.dumps(spans).decode()


def decode_spans(text: str) -> Iterator[int]:
    """Yield the sequence numbers that `text` covers, in order."""
    for first, last in orjson.loads(text):
        yield from range(first, last + 1)
