"""Single users: what is known of them, what their app reports, and forgetting them for good."""

from relay.directory.erasure import UserErasure
from relay.errors import NotFound
from relay.http.admin.context import SegmentsContext, StoresContext
from relay.http.admin.operations import Call, NoInput, NoOutput, Operation
from relay.http.admin.segment_schemas import ToldUser, UserAnswer
from relay.http.admin.segment_views import answer_user
from relay.onesignal.export_file import SubscriptionRow

_USER = "/users/{app}/{external_id}"


async def _show(context: SegmentsContext, call: Call[NoInput]) -> UserAnswer:
    app, external_id = call.path["app"], call.path["external_id"]
    context.check(app)
    user = await context.segments.read_model.user(app, external_id)
    answer = answer_user(app, external_id, user)
    if answer is None:
        raise NotFound(f"neither the directory of {app} nor any of its cohorts has that user")
    return answer


async def _forget(context: StoresContext, call: Call[NoInput]) -> NoOutput:
    """Forget a user, known or not: later events of an unknown one are dropped too."""
    app = call.path["app"]
    context.check(app)
    erasure = UserErasure(context.outbox, context.segments, context.clock)
    await erasure.forget(app, call.path["external_id"])
    return NoOutput()


async def _put(context: SegmentsContext, call: Call[ToldUser]) -> NoOutput:
    """Store what an app reports of a user; ignored if the user is forgotten."""
    number, external_id = context.number(call.path["app"]), call.path["external_id"]
    reported = [
        SubscriptionRow(external_id, one.id, one.type, one.subscribed)
        for one in call.input.subscriptions
    ]
    directory, now_ms = context.segments.directory, context.clock.now_ms()
    await directory.put_user(number, external_id, reported, now_ms)
    return NoOutput()


SHOW_USER = Operation("GET", _USER, "Tell what is known of a user.", NoInput, UserAnswer, _show)
FORGET_USER = Operation(
    "DELETE", _USER, "Forget a user everywhere and for good.", NoInput, NoOutput, _forget
)
PUT_USER = Operation(
    "PUT",
    "/directory/{app}/{external_id}",
    "Tell all subscriptions of a user, as the app knows them.",
    ToldUser,
    NoOutput,
    _put,
)

OPERATIONS = (SHOW_USER, FORGET_USER, PUT_USER)
