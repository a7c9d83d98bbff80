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
_TEXTS: Final = ("title", "contents")
_D_NAMES: Final = {"event.subscription_device_type": "device_type"}


class Rendering(BaseModel):
    """How events are written down.

    Attributes:
        shape: Layout of the body.
        title: How title and contents are printed: `string` picks English or the plain
            text, `en` prints `.en` alone, `pseudo` quotes the object, `dict` leaves it JSON.
        escapes: Whether printed values are escaped for JSON; not so, quotes break bodies.
        timestamps: `event.timestamp` as seconds, milliseconds or ISO text; as a bare
            number; or no time at all.
        legacy_kinds: Whether kinds are spelt as older papers did.
        template: A Liquid body of one's own, instead of the shape's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: Shape = "relay"
    title: TitleMode = "string"
    escapes: bool = True
    timestamps: TimestampMode = "s"
    legacy_kinds: bool = False
    template: str | None = None


class Renderer:
    """Renders events one way.

    Raises:
        TemplateError: If a template of one's own is not understood.
    """

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering
        self._template = Template(rendering.template or template_text(rendering))

    def render(self, event: RawEvent) -> bytes:
        """Return the body of one event."""
        context = {**event, "event": self._disguise(event["event"])}
        return self._template.render(context, escapes=self._rendering.escapes).encode()

    def _disguise(self, event: Mapping[str, object]) -> dict[str, object]:
        """Spell kind and time as asked for."""
        disguised = dict(event)
        kind = str(event["kind"])
        if self._rendering.legacy_kinds:
            disguised["kind"] = LEGACY_SPELLINGS.get(kind, kind)
        seconds = event["timestamp"]
        match self._rendering.timestamps:
            case "ms" if isinstance(seconds, int):
                disguised["timestamp"] = seconds * 1000
            case "iso":
                disguised["timestamp"] = event["datetime"]
            case "absent":
                del disguised["timestamp"], disguised["datetime"]
            case _:
                pass
        if self._rendering.timestamps in ("ms", "iso"):
            del disguised["datetime"]
        return disguised


def template_text(rendering: Rendering) -> str:
    """Return the Liquid text of a shape."""
    match rendering.shape:
        case "relay":
            return _relay_template(rendering)
        case "A":
            event = _dotted("event", _EVENT, rendering) + _dotted("event.data", _DATA, rendering)
            message = _dotted("message", _MESSAGE, rendering)
            message.append('"template_id": "{{ message.template_id }}"')
            return f'{{"Event Data": {_object(event)}, "Message Data": {_object(message)}}}'
        case "B":
            return _object(_all_dotted(rendering))
        case "D":
            return _object([_snake(line) for line in _all_dotted(rendering)])


def _relay_template(rendering: Rendering) -> str:
    event = _nested("event", _EVENT, rendering)
    event.append(f'"data": {_object(_nested("event.data", _DATA, rendering))}')
    message = _nested("message", _MESSAGE, rendering)
    user = [
        '"language": "{{ user.language }}"',
        '"subscription": {"language": "{{ user.subscription.language }}"}',
    ]
    return (
        f'{{"relay_template": 1, "event": {_object(event)},'
        f' "message": {_object(message)}, "user": {_object(user)}}}'
    )


def _all_dotted(rendering: Rendering) -> list[str]:
    return [
        *_dotted("event", _EVENT, rendering),
        *_dotted("event.data", _DATA, rendering),
        *_dotted("message", _MESSAGE, rendering),
        '"user.language": "{{ user.language }}"',
        '"user.subscription.language": "{{ user.subscription.language }}"',
    ]


def _dotted(root: str, names: tuple[str, ...], rendering: Rendering) -> list[str]:
    return [f'"{root}.{name}": {_value(f"{root}.{name}", rendering)}' for name in names]


def _nested(root: str, names: tuple[str, ...], rendering: Rendering) -> list[str]:
    return [f'"{name}": {_value(f"{root}.{name}", rendering)}' for name in names]


def _snake(line: str) -> str:
    """Turn the key of a dotted line into a flat name (`event.data.` falls away)."""
    key, _, value = line.partition('": ')
    path = key[1:]
    flat = _D_NAMES.get(path, path.replace("event.data.", "").replace(".", "_"))
    return f'"{flat}": {value}'


def _object(lines: list[str]) -> str:
    return "{" + ", ".join(lines) + "}"


def _value(path: str, rendering: Rendering) -> str:
    if path == "event.timestamp" and rendering.timestamps == "number":
        return f"{{{{ {path} }}}}"
    if path.removeprefix("message.") not in _TEXTS:
        return f'"{{{{ {path} }}}}"'
    plain, english = f"{{{{ {path} }}}}", f"{{{{ {path}.en }}}}"
    match rendering.title:
        case "en":
            return f'"{english}"'
        case "pseudo":
            return f'"{plain}"'
        case "dict":
            return f'{{% if {path}.en %}}{plain}{{% else %}}"{plain}"{{% endif %}}'
        case "string":
            return f'"{{% if {path}.en %}}{english}{{% else %}}{plain}{{% endif %}}"'
