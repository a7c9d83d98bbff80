import pytest

from relay.events.records import MessageFields, Record, fill_blank

REMEMBERED = MessageFields(
    id="m-1",
    name="new-year-offer",
    title={"en": "Happy new year", "de": "Frohes neues Jahr"},
    contents="20% off",
    template_id="t-1",
    url="https://shop.example",
    app_url="shop://",
    web_url="https://shop.example/ny",
)


@pytest.mark.parametrize("fields", [REMEMBERED, MessageFields(), MessageFields(id="m-1")])
def test_message_fields_survive_being_stored(fields: MessageFields) -> None:
    """Fields cached for 90 days are read back unchanged."""
    assert MessageFields.from_json(fields.to_json()) == fields


def test_absent_message_fields_take_no_space() -> None:
    """Only known fields are stored."""
    assert MessageFields(id="m-1", title="Hi").to_json() == b'{"id":"m-1","title":"Hi"}'


@pytest.mark.parametrize(
    "fields", [MessageFields(), MessageFields(id="m-1", template_id="t-1", url="u")]
)
def test_message_without_name_title_and_contents_is_blank(fields: MessageFields) -> None:
    """Such an event comes more than 30 days after its message."""
    assert fields.is_blank


@pytest.mark.parametrize(
    "fields",
    [MessageFields(name="n"), MessageFields(title="t"), MessageFields(contents={"en": "c"})],
)
def test_message_with_one_of_them_is_not_blank(fields: MessageFields) -> None:
    """An e-mail has no contents and an in-app message no title."""
    assert not fields.is_blank


def test_blank_message_is_filled_from_an_earlier_event() -> None:
    """A late click gets the fields of the earlier event."""
    late = Record(kind="message.push.clicked", event_id="e-9", message=MessageFields(id="m-1"))
    assert fill_blank(late, REMEMBERED) == late._replace(message=REMEMBERED)


def test_filling_never_replaces_what_the_event_tells() -> None:
    """Only absent fields are filled."""
    told = MessageFields(id="m-1", name="renamed", contents={"en": "new"})
    filled = fill_blank(Record(kind="message.push.clicked", message=told), REMEMBERED)
    assert filled.message == REMEMBERED._replace(name="renamed", contents={"en": "new"})
