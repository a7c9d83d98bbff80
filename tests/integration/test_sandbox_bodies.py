"""relay reads what the OneSignal stand-in writes."""

from random import Random

import pytest

from relay.events.payload import parse_body, read_record
from relay.sandbox.onesignal.templates import Renderer, Rendering
from relay.sandbox.onesignal.traffic import Traffic, TrafficOptions


@pytest.mark.parametrize("shape", ["relay", "A", "B", "D"])
@pytest.mark.parametrize("title", ["string", "en", "pseudo", "dict"])
@pytest.mark.parametrize("timestamps", ["s", "number", "ms", "iso"])
@pytest.mark.parametrize("legacy_kinds", [False, True])
def test_every_rendering_is_understood(
    shape: str, title: str, timestamps: str, *, legacy_kinds: bool
) -> None:
    """All shapes, titles, times and spellings give the same kind and ids."""
    renderer = Renderer(
        Rendering.model_validate(
            {"shape": shape, "title": title, "timestamps": timestamps, "legacy_kinds": legacy_kinds}
        )
    )
    for raw in Traffic(TrafficOptions("app"), Random(1)).take(100):
        record = read_record(parse_body(renderer.render(raw))[0])
        assert record.kind == raw["event"]["kind"]
        assert record.event_id == raw["event"]["id"]
        assert record.subscription_id == raw["event"]["subscription_id"]
        assert (record.external_id or "") == raw["event"]["external_id"]
        assert record.message.id == raw["message"]["id"]
        assert record.time_ms is not None
