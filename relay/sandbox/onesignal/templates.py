"""Event Streams bodies: the shapes customers send, rendered from a raw event.

Shapes are named as in the field: `relay` (nested objects, the template relay prints),
`A` (two objects with dotted keys, from OneSignal's page), `B` (one flat object with dotted
keys, from its data reference), `D` (flat snake_case names).

Source: OneSignal Event Streams page and data reference, 2026.
"""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from relay.sandbox.onesignal.liquid import Template
from relay.sandbox.onesignal.traffic import RawEvent

Shape = Literal["relay", "A", "B", "D"]
TitleMode = Literal["string", "en", "pseudo", "dict"]
TimestampMode = Literal["s", "ms", "iso", "number", "absent"]

LEGACY_SPELLINGS: Final = {
    "message.push.received": "message.push received",
    "message.iam.impression": "message.iam.displayed",
    "message.iam.clicked": "message. iam.clicked",
    "message.iam.page_displayed": "message.iam.pagedisplayed",
    "message.email.reported_as_spam": "message.email.resporedasspam",
    "message.email.bounced": "message.email.hardbounced",
    "message.email.suppressed": "message.email.supressed",
}
_EVENT: Final = (
    "kind", "id", "timestamp", "datetime", "app_id", "subscription_device_type",
    "subscription_id", "onesignal_id", "external_id",
)  # fmt: skip
_DATA: Final = (
    "page_name", "page_id", "target_name", "target_id", "failure_reason",
    "live_activity_id", "live_activity_type",
)  # fmt: skip
_MESSAGE: Final = (
    "id", "name", "title", "contents", "template_id", "url", "app_url", "web_url",
    "live_activity_event_kind",
)  # fmt: skip
_TEXTS: Final = ("message.title", "message.contents")
_D_NAMES: Final = {"event.subscription_device_type": "device_type"}
_USER: Final = (
    '"user": {"language": "{{ user.language }}",'
    ' "subscription": {"language": "{{ user.subscription.language }}"}}'
)
_DOTTED_USER: Final = (
    '"user.language": "{{ user.language }}"',
    '"user.subscription.language": "{{ user.subscription.language }}"',
)


class Rendering(BaseModel):
    """How events are written down.

    Attributes:
        shape: Layout of the body.
        title: How title and contents are printed: `string` picks English or the plain
            text, `en` prints `.en` alone, `pseudo` quotes the object, `dict` leaves it JSON.
        escapes: Whether printed values are escaped for JSON; if not, quotes break bodies.
        timestamps: `event.timestamp` as seconds, milliseconds or ISO text; as a bare
            number; or no time at all.
        legacy_kinds: Whether kinds are spelt as in older documents.
        template: A custom Liquid body instead of the shape's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: Shape = "relay"
    title: TitleMode = "string"
    escapes: bool = True
    timestamps: TimestampMode = "s"
    legacy_kinds: bool = False
    template: str | None = None


class Renderer:
    """Renders events with one set of options.

    Raises:
        TemplateError: If a custom template is not understood.
    """

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering
        self._template = Template(rendering.template or template_text(rendering))

    def render(self, event: RawEvent) -> bytes:
        """Return the body of one event."""
        context = {**event, "event": self._spell(event["event"])}
        return self._template.render(context, escapes=self._rendering.escapes).encode()

    def _spell(self, event: Mapping[str, object]) -> dict[str, object]:
        """Return the event with kind and time spelt as the options say."""
        spelt, seconds = dict(event), event["timestamp"]
        if self._rendering.legacy_kinds:
            spelt["kind"] = LEGACY_SPELLINGS.get(str(event["kind"]), event["kind"])
        match self._rendering.timestamps:
            case "ms" if isinstance(seconds, int):
                spelt["timestamp"] = seconds * 1000
            case "iso":
                spelt["timestamp"] = event["datetime"]
            case "absent":
                del spelt["timestamp"]
            case _:
                return spelt
        # Relay prefers `datetime`: only without it is the timestamp read.
        del spelt["datetime"]
        return spelt


def template_text(rendering: Rendering) -> str:
    """Return the Liquid text of a shape."""

    def pairs(root: str, names: tuple[str, ...], *, dotted: bool = True) -> list[str]:
        keys = [f"{root}.{name}" if dotted else name for name in names]
        values = [_value(f"{root}.{name}", rendering) for name in names]
        return [f'"{key}": {value}' for key, value in zip(keys, values, strict=True)]

    if rendering.shape == "relay":
        event, message = (
            pairs("event", _EVENT, dotted=False),
            pairs("message", _MESSAGE, dotted=False),
        )
        event.append(f'"data": {_object(pairs("event.data", _DATA, dotted=False))}')
        parts = ['"relay_template": 1', f'"event": {_object(event)}']
        return _object([*parts, f'"message": {_object(message)}', _USER])
    event = pairs("event", _EVENT) + pairs("event.data", _DATA)
    message = pairs("message", _MESSAGE)
    if rendering.shape == "A":
        message.append('"template_id": "{{ message.template_id }}"')
        return f'{{"Event Data": {_object(event)}, "Message Data": {_object(message)}}}'
    flat = [*event, *message, *_DOTTED_USER]
    return _object(flat if rendering.shape == "B" else [_snake(pair) for pair in flat])


def _snake(pair: str) -> str:
    """Turn a dotted key into a flat name (`event.data.` disappears)."""
    key, _, value = pair.partition('": ')
    path = key[1:]
    flat = _D_NAMES.get(path, path.replace("event.data.", "").replace(".", "_"))
    return f'"{flat}": {value}'


def _object(pairs: list[str]) -> str:
    return "{" + ", ".join(pairs) + "}"


def _value(path: str, rendering: Rendering) -> str:
    """Return the Liquid that prints the value at a path."""
    plain, english = f"{{{{ {path} }}}}", f"{{{{ {path}.en }}}}"
    if path == "event.timestamp" and rendering.timestamps == "number":
        return plain
    if path not in _TEXTS:
        return f'"{plain}"'
    match rendering.title:
        case "en":
            return f'"{english}"'
        case "pseudo":
            return f'"{plain}"'
        case "dict":
            return f'{{% if {path}.en %}}{plain}{{% else %}}"{plain}"{{% endif %}}'
        case "string":
            return f'"{{% if {path}.en %}}{english}{{% else %}}{plain}{{% endif %}}"'
