"""Users: what is known of one, told by the app itself, forgotten for good."""

from aiohttp import web
from pydantic import BaseModel

from relay.http.admin.context import AdminContext
from relay.http.admin.operations import AnyOperation, Call, NoInput, Operation
from relay.http.admin.segment_schemas import ToldUser, UserAnswer
from relay.http.admin.segment_views import answer_user
from relay.onesignal.export_file import SubscriptionRow

USER = "/users/{app}/{external_id}"


class UserOperations:
    """The operations on single users."""

    def __init__(self, parts: AdminContext) -> None:
        self._parts = parts

    def operations(self) -> list[AnyOperation]:
        """Return them."""
        return [
            Operation("GET", USER, "Tell what is known of a user.", NoInput, UserAnswer, self.show),
            Operation(
                "DELETE", USER, "Forget a user everywhere and for good.", NoInput, None, self.forget
            ),
            Operation(
                "PUT",
                "/directory/{app}/{external_id}",
                "Tell all subscriptions of a user, as the app knows them.",
                ToldUser,
                None,
                self.put,
            ),
        ]

    async def show(self, call: Call[BaseModel]) -> UserAnswer:
        """Return a user's subscriptions and segments, and what every cohort says."""
        app, external_id = call.path["app"], call.path["external_id"]
        self._parts.check(app)
        user = await self._parts.segments.reading.user(app, external_id)
        answer = answer_user(app, external_id, user)
        if answer is None:
            raise web.HTTPNotFound(
                text=f"neither the directory of {app} nor any of its cohorts has that user"
            )
        return answer

    async def forget(self, call: Call[BaseModel]) -> None:
        """Forget a user, known or not: what comes later of that user is not taken."""
        app = call.path["app"]
        self._parts.check(app)
        await self._parts.forgetter.forget(app, call.path["external_id"])

    async def put(self, call: Call[ToldUser]) -> None:
        """Take the app's word; about a forgotten user it is not heard."""
        number, external_id = self._parts.number(call.path["app"]), call.path["external_id"]
        told = [
            SubscriptionRow(external_id, one.id, one.type, one.subscribed)
            for one in call.asked.subscriptions
        ]
        await self._parts.segments.directory.put_user(
            number, external_id, told, self._parts.clock.now_ms()
        )
