"""Dead letters as the admin API shows them."""

import orjson
import pytest

from relay.http.admin.dead_letters import MAX_SHOWN_LEVELS, answer_dead_letter
from relay.http.admin.schemas import DeadLetterPage
from relay.outbox.dead_letters import DeadLetter


def dead_letter(body: bytes) -> DeadLetter:
    """Return a dead letter of an event."""
    return DeadLetter(
        id=1,
        app="shop",
        insert_id="insert-1",
        event_type="opened",
        reason="rejected",
        detail="400",
        attempts=1,
        accepted_at=1,
        first_tried_at=1,
        died_at=1,
        body=body,
    )


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
@pytest.mark.parametrize("levels", [1, MAX_SHOWN_LEVELS - 1, MAX_SHOWN_LEVELS, 256, 900])
def test_an_event_of_any_depth_leaves_the_page_readable(
    levels: int, opening: bytes, closing: bytes
) -> None:
    """One deeply nested event must not hide all others: it is shown as text."""
    flat = b'{"a":1,"b":["c",null]}'
    deep = opening * levels + b"1" + closing * levels
    items = [answer_dead_letter(dead_letter(body)) for body in (flat, deep)]
    page = orjson.loads(DeadLetterPage(items=items, next=None).model_dump_json())
    shown = [item["event"] for item in page["items"]]
    is_whole = levels < MAX_SHOWN_LEVELS
    assert shown == [orjson.loads(flat), orjson.loads(deep) if is_whole else deep.decode()]
