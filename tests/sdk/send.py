"""Sends one of everything with Amplitude's Python SDK, and prints the result of each event.

`python send.py URL API_KEY`; prints a JSON array of `[event_type, code]`.
"""

import json
import sys
from threading import Condition

from amplitude import (  # type: ignore[import-untyped]  # it comes without types
    Amplitude,
    BaseEvent,
    Config,
    EventOptions,
    Identify,
    IngestionMetadata,
    Plan,
    Revenue,
)

PATIENCE_S = 30.0
EVENTS = 6


def main(url: str, api_key: str) -> None:
    """Send, and wait until the SDK has given its last word on every event."""
    told: list[tuple[str, int]] = []
    changed = Condition()

    def tell(event: BaseEvent, code: int, _message: str | None = None) -> None:
        with changed:
            told.append((event.event_type, code))
            changed.notify()

    client = Amplitude(
        api_key,
        Config(
            server_url=url,
            flush_interval_millis=100,
            callback=tell,
            plan=Plan(branch="main", source="web", version="3"),
            ingestion_metadata=IngestionMetadata("tests", "1"),
        ),
    )
    person = {"user_id": "user-of-the-sdk", "device_id": "device-of-the-sdk"}
    client.track(
        BaseEvent(
            "Opened",
            **person,
            time=1_767_261_906_412,
            event_properties={"screen": "höme 👋", "depth": {"of": [1, 2.5, True]}},
            user_properties={"plan": "free"},
            app_version="1.2.3",
            platform="Server",
            os_name="Linux",
            language="de",
            country="Germany",
            location_lat=52.5,
            location_lng=13.4,
            session_id=1_767_261_900_000,
            ip="$remote",
        )
    )
    client.identify(Identify().set("plan", "paid").add("visits", 1), EventOptions(**person))
    client.group_identify("company", "Acme", Identify().set("seats", 12), EventOptions(**person))
    client.set_group("company", "Acme", EventOptions(**person))
    revenue = Revenue(price=9.99, quantity=2, product_id="book", revenue_type="income")
    client.revenue(revenue, EventOptions(**person))
    client.track(BaseEvent("Bad", user_id="bob"))
    client.flush()
    with changed:
        changed.wait_for(lambda: len(told) == EVENTS, PATIENCE_S)
    client.shutdown()
    print(json.dumps(sorted(told)))  # noqa: T201  # read by the test


if __name__ == "__main__":
    main(*sys.argv[1:])
