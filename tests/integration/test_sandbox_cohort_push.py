"""The stand-in's cohort webhook against a scripted receiver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import anyio
import orjson
from aiohttp import web
from yarl import URL

from relay.sandbox.cohorts.files import UserRange
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.webhook import CohortPush, PushOptions, Update
from relay.sandbox.common.listener import running
from relay.sandbox.common.target import Target

COHORT = StandInCohort(
    id="7khm89cz",
    name="Paying",
    user_ids=["a", "b", "c"],
    empty_ids=2,
    last_computed_s=1_692_206_763,
)
HASTY = {"retry_base_s": 0.001, "retry_cap_s": 0.002}


@dataclass
class Receiver:
    """A receiver that plays a script of statuses (0 hangs), then answers 200."""

    script: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    url: URL = field(default_factory=URL)
    ending: anyio.Event = field(default_factory=anyio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one message."""
        self.bodies.append(await request.read())
        self.heads.append(dict(request.headers))
        status = self.script.pop(0) if self.script else 200
        if status == 0:
            await self.ending.wait()
        return web.json_response({"added": len(self.bodies)}, status=status or 200)

    def push(self, **options: object) -> CohortPush:
        """Return a push to this receiver."""
        target = Target(self.url, headers={"X-Relay-Token": "token-1"})
        return CohortPush(target, PushOptions.model_validate(HASTY | options))


@asynccontextmanager
async def receiver(*script: int) -> AsyncIterator[Receiver]:
    """Run a receiver for the duration of a test."""
    own = Receiver(list(script))
    app = web.Application()
    app.router.add_post("/v1/apps/shop/cohorts", own.handle)
    with anyio.fail_after(10):
        async with running(app) as url:
            own.url = url.with_path("/v1/apps/shop/cohorts")
            yield own
            own.ending.set()


async def test_the_message_is_amplitudes() -> None:
    """Exactly Amplitude's format, and users without an id are omitted."""
    async with receiver() as h:
        account = await h.push(properties={"country": "US"}).push(COHORT)
        message = orjson.loads(h.bodies[0])
        (message_id,) = account.acknowledged
        assert message == {
            "cohort_name": "Paying",
            "cohort_id": "7khm89cz",
            "in_cohort": True,
            "computed_time": "1692206763",
            "message_id": message_id,
            "users": [
                {"user_id": name, "user_properties": {"country": "US"}} for name in ("a", "b", "c")
            ],
        }
        assert message_id.endswith("::enter::0")
        head = h.heads[0]
        assert head["User-Agent"] == "Amplitude/Webhook/1.0"
        assert head["Content-Type"] == "application/json"
        assert head["X-Relay-Token"] == "token-1"
        assert account.acknowledged[message_id] == {"added": 1}


async def test_the_first_push_is_full_and_the_next_a_difference() -> None:
    """Until a full push is requested again."""
    async with receiver() as h:
        push = h.push()
        await push.push(COHORT)
        account = await push.push(COHORT.model_copy(update={"user_ids": ("b", "c", "d")}))
        entering, leaving = account.messages
        assert (entering.is_entering, entering.user_ids) == (True, ("d",))
        assert (leaving.is_entering, leaving.user_ids) == (False, ("a",))
        assert "::exit::0" in leaving.message_id
        account = await push.push(COHORT, is_full=True)
        assert account.messages[0].user_ids == ("a", "b", "c")
        assert (await push.push(COHORT)).messages == []


async def test_users_come_in_batches() -> None:
    """Numbered within one run."""
    async with receiver() as h:
        cohort = COHORT.model_copy(update={"user_ids": UserRange("u", 0, 5)})
        account = await h.push(users_per_message=2).push(cohort)
        assert [len(message.user_ids) for message in account.messages] == [2, 2, 1]
        names = [message.message_id.rsplit("::", 2) for message in account.messages]
        assert all(one[:2] == other[:2] for one, other in pairwise(names))
        assert [name[2] for name in names] == ["0", "1", "2"]
        assert account.summary()["entering"] == 5


async def test_a_failed_message_is_resent_unchanged() -> None:
    """After any error or timeout, up to the last attempt."""
    async with receiver(503, 422, 0) as h:
        account = await h.push(timeout_s=0.05, max_attempts=4).push(COHORT)
        assert len(set(h.bodies)) == 1
        assert account.answers == {"503": 1, "422": 1, "timeout": 1, "200": 1}
        assert account.failed == []


async def test_a_message_is_dropped_after_the_last_attempt() -> None:
    """A closed listener is a failure as well."""
    async with receiver(500, 500) as h:
        account = await h.push(max_attempts=2).push(COHORT)
        assert account.failed == [account.messages[0].message_id]
        assert account.summary()["acknowledged"] == {}
        push = CohortPush(Target("http://127.0.0.1:1/"), PushOptions(max_attempts=1))
        assert (await push.push(COHORT)).answers == {"connection": 1}


async def test_duplicates_and_disorder() -> None:
    """The same ids twice, in another order."""
    async with receiver() as h:
        push = h.push(users_per_message=1, duplicate_rate=1.0, is_shuffled=True, concurrency=3)
        update = Update("c", "Cohort", 5, [f"u{n}" for n in range(10)], ["gone"])
        account = await push.send(update)
        ids = [message.message_id for message in account.messages]
        assert (len(ids), len(set(ids))) == (22, 11)
        assert ids != sorted(ids)
        assert len(h.bodies) == 22
        assert len(account.acknowledged) == 11


async def test_an_answer_need_not_be_json() -> None:
    """Amplitude looks at the status alone."""
    app = web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app.router.add_post("/", answer)
    async with running(app) as url:
        account = await CohortPush(Target(url)).push(COHORT)
        assert list(account.acknowledged.values()) == [{}]
