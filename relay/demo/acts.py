"""The story, act by act. Every act waits for facts, never for time alone.

An act sets how Amplitude behaves, lets OneSignal send, and notes what it saw. Whether that
was well is not judged here (`proof`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.demo.evidence import Measured
from relay.demo.findings import Answers
from relay.demo.process import DemoFailed, Stuck
from relay.demo.segment_acts import tell_segments
from relay.demo.stage import Stage
from relay.demo.telling import Telling
from relay.demo.troubles import break_amplitude, kill_relay, poison_and_throttle, refuse_key
from relay.http.admin.schemas import DeadLetterAnswer
from relay.sandbox.amplitude.conditions import Conditions

SETTLE_S: Final = 8.0
"""For what is still under way when the story is over."""


@dataclass(frozen=True, slots=True)
class Told:
    """A story that was told to its end.

    Attributes:
        measured: What the acts noted.
        answers: What relay said before it was stopped.
    """

    measured: Measured
    answers: Answers = field(repr=False)


async def tell_story(stage: Stage) -> Told:
    """Tell the story, as far as it goes; relay has ended after it.

    Where it gets stuck, everything is made right and what can be proven is proven.

    Raises:
        DemoFailed: If relay does not come up, does not answer or ends by itself.
    """
    telling = Telling(stage)
    await _begin(telling)
    dead_once: Sequence[DeadLetterAnswer] = ()
    try:
        for act in (
            _send_traffic,
            refuse_key,
            break_amplitude,
            poison_and_throttle,
            kill_relay,
            _calm_down,
        ):
            await act(telling)
        dead_once = await _mend_letter(telling)
        await tell_segments(telling)
    except Stuck as stuck:
        telling.measured.stuck = str(stuck)
        stage.view.say(f"The story is stuck: {stuck}.")
        dead_once = dead_once or await stage.dead_letters()
        stage.sandbox.amplitude.faults.clear()
        stage.sandbox.amplitude.conditions = Conditions()
    answers = await _ask(telling, dead_once)
    await _stop(telling)
    return Told(telling.measured, answers)


async def _begin(telling: Telling) -> None:
    stage, noted = telling.stage, telling.measured
    stage.view.begin_act("1. Everything starts", "stand-ins for both services, and a real relay")
    stage.view.say(f"OneSignal and Amplitude are played at {stage.doors.sandbox}")
    noted.ready_s = await stage.start_relay()
    stage.view.say(
        f"relay is process {stage.process.pid}, ready after {noted.ready_s:.1f} s; "
        f"its data is in {stage.folder}"
    )


async def _send_traffic(telling: Telling) -> None:
    stage = telling.stage
    stage.view.begin_act(
        "2. A day's traffic",
        "26 kinds of event in six kinds of body; some twice, broken, unknown or another app's",
    )
    await stage.play("traffic")
    await telling.drain("everything reaches Amplitude")
    receipts = [journal.receipts for journal in stage.journals.values()]
    counts = [
        f"{sum(receipt[name] for receipt in receipts)} {name}"
        for name in ("accepted", "duplicate", "filtered", "quarantined")
    ]
    stage.view.say(f"relay's answers so far: {', '.join(counts)}")


async def _calm_down(telling: Telling) -> None:
    stage = telling.stage
    stage.view.begin_act("7. Calm", "everything that waits reaches Amplitude")
    await telling.drain("the outbox is empty")
    stage.view.say("nothing waits any more")


async def _mend_letter(telling: Telling) -> Sequence[DeadLetterAnswer]:
    """Try one dead letter again, and return all there were before."""
    stage, walled = telling.stage, telling.stage.script.poison.walled
    stage.view.begin_act("8. Dead letters", "a person looks at them and tries one again")
    letters = await stage.dead_letters()
    for letter in letters:
        stage.view.say(
            f"{letter.app} {letter.insert_id[:8]} {letter.reason}: {letter.detail} "
            f"(attempts: {letter.attempts})"
        )
    stage.sandbox.amplitude.conditions.poisons = []
    for letter in letters:
        if letter.insert_id == walled:
            telling.measured.repaired = walled
            await stage.retry(letter.id)
            await stage.watch.until(lambda: walled in telling.stored(), "it arrives")
            stage.view.say(f"{walled[:8]} was tried again and arrived")
    return letters


async def _ask(telling: Telling, dead_once: Sequence[DeadLetterAnswer]) -> Answers:
    """Have relay say all that it will be held to."""
    stage = telling.stage
    try:
        await telling.drain("the last upload is settled", within_s=SETTLE_S)
    except Stuck as stuck:
        telling.measured.stuck = telling.measured.stuck or str(stuck)
    if stage.watch.latest is None:
        raise DemoFailed("relay does not answer any more")
    return Answers(
        counts=stage.watch.latest.apps,
        dead_once=dead_once,
        dead=await stage.dead_letters(),
        quarantine=await stage.quarantine(),
    )


async def _stop(telling: Telling) -> None:
    stage, noted = telling.stage, telling.measured
    stage.view.begin_act("16. SIGTERM", "relay ends in order")
    began_s = stage.clock.monotonic_s()
    noted.stop_code = await stage.process.stop()
    noted.stop_s = stage.clock.monotonic_s() - began_s
    stage.view.say(f"exit code {noted.stop_code} after {noted.stop_s:.1f} s")
    stage.view.end_act()
