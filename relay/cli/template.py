"""`relay template`: the body to paste into OneSignal's Event Streams form.

Everything is quoted, because Liquid prints a missing value as nothing. Title and
contents are an object by language for some channels and a text for others; an object between
quotes would come as pseudo-JSON, so English is picked where there is some.
"""

import sys
from importlib.resources import files

TEMPLATE = "event_stream_template.liquid"


def template() -> None:
    """Print the Event Streams body to paste into OneSignal (Data > Event Streams > custom body)."""
    sys.stdout.write(files("relay.cli").joinpath(TEMPLATE).read_text(encoding="utf-8"))
