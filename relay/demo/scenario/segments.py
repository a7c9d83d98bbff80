"""The steps in which cohorts of Amplitude become segments, and all is well."""

from collections.abc import Sequence
from typing import Final

import anyio

from relay.cli.explanation import summary
from relay.demo.environment import Environment
from relay.demo.expected import members_after_message
from relay.demo.relay_process import StepTimeout
from relay.demo.scenario.segment_probe import WITHIN_S, SegmentProbe
from relay.demo.segment_recorder import NOBODY
from relay.http.admin.schemas import Affected
from relay.http.admin.segment_schemas import DirectoryAnswer
from relay.sandbox.cohort_messages import PushOptions
from relay.sandbox.cohort_push import CohortPush
from relay.sandbox.onesignal import Target
from relay.segments.read_model import Explanation
from relay.segments.views import ChangeRow

_USERS_SHOWN: Final = 3
_EVERY_MESSAGE_TWICE: Final = PushOptions(users_per_message=200, duplicate_rate=1.0)


async def fill_directory(env: Environment) -> None:
    """Import OneSignal's users of the first app; another program reads the views from now on."""
    await env.background.start(env.segments.run, name="demo segment recorder")
    path = f"/directory/{env.plan.apps[0].name}"
    before = await env.api.get(path, DirectoryAnswer)
    await env.api.post(f"{path}/sync", Affected)
    after = await _synced_directory(env, path)
    env.display.say(
        f"events have shown {before.users} users; now {after.users} are known, with "
        f"{after.subscriptions} subscriptions, {after.subscribed} of them subscribed"
    )


async def _synced_directory(env: Environment, path: str) -> DirectoryAnswer:
    with anyio.move_on_after(WITHIN_S):
        while True:
            directory = await env.api.get(path, DirectoryAnswer)
            if directory.synced_at is not None:
                return directory
            await env.status.next_poll()
    raise StepTimeout("OneSignal's export was not applied")


async def download_cohort(env: Environment) -> None:
    """Let Amplitude list a cohort for the first time."""
    probe = SegmentProbe(env)
    probe.expect(probe.plan.polled)
    cohort = probe.put(probe.plan.polled)
    await probe.until_revision(cohort.id)
    await probe.compare("the first download", cohort.id)
    explained = await probe.explain("the first download", cohort)
    env.display.say(f"{cohort.name}: {summary(Explanation(**explained.model_dump()))}")


async def change_cohort(env: Environment) -> None:
    """Let Amplitude compute the cohort anew, slightly changed."""
    probe = SegmentProbe(env)
    cohort = probe.compute(probe.plan.polled.id, "change")
    probe.expect(cohort)
    await probe.until_revision(cohort.id)
    await probe.compare("another computation", cohort.id)
    for line in _describe(env.segments.last_changes.get(cohort.id, ())):
        env.display.say(f"segment_changes: {line}")


def _describe(changes: Sequence[ChangeRow]) -> list[str]:
    lines = []
    for word in ("entered", "left"):
        names = [change.external_id for change in changes if change.change == word]
        more = f", and {len(names) - _USERS_SHOWN} more" if len(names) > _USERS_SHOWN else ""
        lines.append(f"{len(names)} {word}: {', '.join(names[:_USERS_SHOWN])}{more}")
    return lines


async def push_cohort(env: Environment) -> None:
    """Let Amplitude push another cohort by webhook, every message twice; then a change of it."""
    probe = SegmentProbe(env)
    hook = env.addresses.hook(probe.app, "cohorts")
    push = CohortPush(Target(hook, probe.app.token), _EVERY_MESSAGE_TWICE)
    cohort = probe.put(probe.plan.pushed)
    await _push(probe, push, cohort.id)
    probe.compute(cohort.id, "pushed")
    await _push(probe, push, cohort.id)
    move = probe.plan.moves["pushed"]
    (entering,), (leaving,) = move.entering, move.leaving
    env.display.say(f"then one message moved {entering} in and another one {leaving} out")


async def _push(probe: SegmentProbe, push: CohortPush, cohort_id: str) -> None:
    """Push what has changed of a cohort, and compare the segment with the messages."""
    notes = probe.notes
    account = await push.push(probe.cohort(cohort_id))
    messages = {message.message_id: message for message in account.messages}.values()
    notes.revisions.setdefault(cohort_id, [NOBODY])
    for message in messages:
        members = members_after_message(
            notes.revisions[cohort_id][-1],
            message.user_ids,
            probe.known,
            is_entering=message.is_entering,
        )
        probe.expect_members(cohort_id, members)
    answered = account.answers["200"]
    notes.messages += len(messages)
    notes.deliveries += answered
    notes.undelivered += account.answers.total() - answered
    await probe.compare(f"{len(messages)} messages of the webhook", cohort_id)
    probe.env.display.say(
        f"{len(messages)} messages, answered 200 {answered} times: "
        f"{len(notes.revisions[cohort_id][-1])} members"
    )
