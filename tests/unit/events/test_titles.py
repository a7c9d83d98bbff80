import pytest

from relay.events.titles import Wording, choose_text, wording_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"de": "Hallo", "en": "Hello"}, {"de": "Hallo", "en": "Hello"}),
        ('{"de": "Hallo", "en": "He\\"llo\\n"}', {"de": "Hallo", "en": 'He"llo\n'}),
        ("{'de':'Hallo','en':'Hello'}", {"de": "Hallo", "en": "Hello"}),
        (" { 'de' : 'Hallo' , 'zh-Hans' : '你好' } ", {"de": "Hallo", "zh-Hans": "你好"}),
        ("{'en':'Don't miss','de':'x'}", {"en": "Don't miss", "de": "x"}),
        ("{'de':'x','en':'It's the dogs''}", {"de": "x", "en": "It's the dogs'"}),
        ("{'en':'one, 'two', three','de':'x'}", {"en": "one, 'two', three", "de": "x"}),
        ("{'en': \"Don't\", 'de': 'x'}", {"en": "Don't", "de": "x"}),
        ("{'en':'a } b','pt_BR':'{'}", {"en": "a } b", "pt_BR": "{"}),
        ("Happy new year", "Happy new year"),
        ("Don't miss 'en':'this'", "Don't miss 'en':'this'"),
    ],
)
def test_texts_are_read_in_every_form(value: object, expected: Wording) -> None:
    """Objects, JSON text and single-quoted objects give texts by language."""
    assert wording_of(value) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{hello}",
        "{'en':'cut off",
        "{'en':'",
        "{'en'}",
        "{'no language code':'x'}",
        '{"title of": "x"}',
        "{{ message.title }}",
    ],
)
def test_text_that_only_begins_like_an_object_is_plain(text: str) -> None:
    """A title is never lost because it looks like an object."""
    assert wording_of(text) == text


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "  ",
        {},
        "{}",
        "{ }",
        {"en": ""},
        {"en": None},
        '{"en":" "}',
        "{'en':''}",
        True,
        [],
    ],
)
def test_blank_texts_are_absent(value: object) -> None:
    """An object of blank texts counts as blank."""
    assert wording_of(value) is None


def test_blank_texts_and_other_values_leave_their_language_out() -> None:
    """Only languages with a text can be chosen; numbers are text."""
    assert wording_of({"en": "", "de": 7, "fr": None, "es": ["x"], "it": "ciao"}) == {
        "de": "7",
        "it": "ciao",
    }


WORDING = {"fr": "bonjour", "de": "hallo", "EN": "hello", "zh-Hans": "你好"}


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        (("de", "fr"), "hallo"),
        (("it", "fr"), "bonjour"),
        (("it", "es"), "hello"),
        ((), "hello"),
        (("DE",), "hallo"),
        (("de-AT",), "hallo"),
        (("de_AT", "fr"), "hallo"),
        (("zh-hans",), "你好"),
        (("zh_Hans",), "你好"),
        (("zh",), "hello"),
    ],
)
def test_language_of_the_device_wins_then_user_then_english(
    languages: tuple[str, ...], expected: str
) -> None:
    """Codes are case-insensitive, and a region falls back to its language."""
    assert choose_text(WORDING, languages) == expected


def test_first_language_is_taken_where_none_fits() -> None:
    """Without English, too, some text is shown."""
    assert choose_text({"fr": "bonjour", "de": "hallo"}, ("it",)) == "bonjour"


@pytest.mark.parametrize("wording", ["Happy new year", None])
def test_plain_text_needs_no_language(wording: str | None) -> None:
    """Plain text is shown in any language; absent text stays absent."""
    assert choose_text(wording, ("de",)) == wording
