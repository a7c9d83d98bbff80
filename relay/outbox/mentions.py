"""Whether a body that is not understood speaks of a user. Pure.

JSON has many spellings of one text, so a body that is JSON is read; one that is not is searched
for the usual two.
"""

import json

import orjson

from relay.events.texts import texts_in


def mentions(body: bytes, external_id: str) -> bool:
    """Return whether a body holds an id as a text, or as the number it is."""
    usual = (orjson.dumps(external_id), json.dumps(external_id).encode())
    if any(spelling in body for spelling in usual):
        return True
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return external_id in texts_in(document)
