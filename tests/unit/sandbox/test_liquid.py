"""The Liquid subset of Event Streams templates."""

import pytest

from relay.sandbox.onesignal.liquid import Template, TemplateError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"{{ a.b }}"', '"x"'),
        ('"{{a.missing.deep}}"', '""'),
        ("{{ n }}", "7"),
        ("{{ yes }}", "true"),
        ("{{ a }}", '{"b":"x"}'),
        ('"{{ a }}"', "\"{'b':'x'}\""),
        ("{{ a.missing | default: 'none' }}", "none"),
        ("{{ a.b | default: 'none' }}", "x"),
        ("{{ a.b | replace: 'x', \"y\" | upcase }}", "Y"),
        ("{% if a.b %}1{% else %}2{% endif %}", "1"),
        ("{% if a.c %}1{% else %}2{% endif %}", "2"),
        ("{% if a.c %}1{% elsif a.b %}2{% else %}3{% endif %}", "2"),
        ("{% if a %}{% if a.c %}1{% endif %}2{% endif %}3", "23"),
        ("plain", "plain"),
    ],
)
def test_rendering(text: str, expected: str) -> None:
    """Missing values print as nothing, objects as JSON or quoted pseudo-JSON."""
    context = {"a": {"b": "x"}, "n": 7, "yes": True}
    assert Template(text).render(context) == expected


def test_escaping_is_for_values_between_quotes() -> None:
    """Values between quotes are escaped if requested; others never are."""
    context = {"text": 'say "hi"\n'}
    template = Template('"{{ text }}"')
    assert template.render(context) == '"say \\"hi\\"\\n"'
    assert template.render(context, escapes=False) == '"say "hi"\n"'


@pytest.mark.parametrize(
    "text", ["{% if a %}", "{% endif %}", "{% for x in y %}", "{{ a | sing }}", "{% else %}"]
)
def test_other_liquid_is_rejected(text: str) -> None:
    """Unknown syntax is rejected, not guessed."""
    with pytest.raises(TemplateError):
        Template(text)
