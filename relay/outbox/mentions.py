"""Whether a body that is not understood speaks of a user. Pure.

JSON has many spellings of one text, so a body that is JSON is read; one that is not is searched
for the usual two.
"""

import json

import orjson


def mentions(body: bytes, external_id: str) -> bool:
    """Return whether a body holds an id as a text, or as the number it is."""
    usual = (orjson.dumps(external_id), json.dumps(external_id).encode())
    if any(spelling in body for spelling in usual):
        return True
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return _holds(document, external_id)


def _holds(document: object, external_id: str) -> bool:
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
        elif value is not None and str(value) == external_id:
            return True
    return False
