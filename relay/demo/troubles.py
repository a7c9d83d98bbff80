"""The acts in which something goes wrong; each makes it right again at its end."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from relay.demo.cast import App
from relay.demo.script import Flow
from relay.demo.stage import Stage
from relay.demo.telling import Telling
from relay.sandbox.amplitude.conditions import Conditions, Poison

RATE_TOLD: Final = 45
"""Events per second a throttled device is said to send."""

STUCK_ANSWER_S: Final = 20.0
"""Longer than relay lives after it: the SIGKILL comes first."""

_OUTAGE: Final = (
    ("refuse", 0.35, "it refuses connections"),
    ("503", 0.55, "it answers 503"),
    ("200_html", 0.70, "a proxy answers 200 with a page of HTML"),
)
"""Faults, the share of the act's events by whose end each is over, and words for it."""

_KILLED_AT: Final = (0.3, 0.6)
"""Shares of the act's events that are answered when SIGKILL comes."""

_DOUBTS: Final = ("reset", "504", "200_cut", "500", "reset", "200_empty")
"""How uploads end whose events Amplitude has stored."""


async def refuse_key(telling: Telling) -> None:
    """The smaller app's key is refused for a while."""
    stage, noted = telling.stage, telling.measured
    first, second = stage.apps
    stage.view.begin_act(
        "3. A refused key", f"Amplitude does not know the key of {second.name} any more"
    )
    began_s, stored = stage.clock.monotonic_s(), len(stage.account(first).insert_ids)
    stage.sandbox.amplitude.conditions.bad_keys = {second.api_key}
    await stage.play("refused_key")
    await stage.watch.until(
        partial(_is_alone_halted, stage), f"{second.name} halts and {first.name} flows"
    )
    waiting = stage.watch.app(second.name)
    noted.halted_waiting = 0 if waiting is None else waiting.pending
    noted.halted_delivered = len(stage.account(first).insert_ids) - stored
    stage.view.say(
        f"{second.name} is halted with {noted.halted_waiting} events on disk; "
        f"{noted.halted_delivered} events of {first.name} arrived meanwhile"
    )
    stage.sandbox.amplitude.conditions.bad_keys = set()
    noted.halted_s = stage.clock.monotonic_s() - began_s
    await telling.drain(f"{second.name} goes on by itself")
    stage.view.say(f"the key is known again: {second.name} went on by itself")


def _is_alone_halted(stage: Stage) -> bool:
    first, second = (stage.watch.app(app.name) for app in stage.apps)
    if first is None or second is None:
        return False
    return first.pending == 0 and second.delivery == "halted"


async def break_amplitude(telling: Telling) -> None:
    """Amplitude is down, then half up."""
    view = telling.stage.view
    view.begin_act("4. Amplitude is down", "OneSignal goes on sending; relay goes on answering 200")
    await telling.during("outage", partial(_break, telling))
    await telling.drain("the outage is made good")
    view.say("Amplitude is well again, and has everything")


async def _break(telling: Telling) -> None:
    stage, noted = telling.stage, telling.measured
    ledger, faults = stage.sandbox.amplitude.ledger, stage.sandbox.amplitude.faults
    began_s, answered, stored = stage.clock.monotonic_s(), stage.answered, ledger.total_events
    expected = _planned(stage.script.flows["outage"])
    for fault, share, words in _OUTAGE:
        faults.clear()
        faults.add(fault)
        await stage.watch.until(
            partial(_has_answered, stage, answered + round(expected * share)), words
        )
        stage.view.say(f"{words}: {stage.watch.pending} events wait on relay's disk")
    noted.outage_answered = stage.answered - answered
    noted.outage_stored = ledger.total_events - stored
    noted.outage_pending = stage.watch.pending or 0
    noted.outage_s = stage.clock.monotonic_s() - began_s
    faults.clear()
    for fault in _DOUBTS:
        faults.add(fault, stored=True, count=1)
    await stage.watch.until(lambda: not faults.active(), "six uploads end in doubt")
    stage.view.say("six uploads were stored and their answers lost: relay must send them again")


async def poison_and_throttle(telling: Telling) -> None:
    """Some events are never taken, and one device is too fast."""
    view = telling.stage.view
    view.begin_act(
        "5. Poison, and a device that is too fast",
        "two events are named one at a time, one is too large, a firewall refuses one",
    )
    await telling.during("poison", partial(_poison, telling))
    await telling.drain("the throttled device goes on")
    view.say("the device may send again: its events arrived")


async def _poison(telling: Telling) -> None:
    stage, noted = telling.stage, telling.measured
    amplitude, plan, device = stage.sandbox.amplitude, stage.script.poison, stage.script.fast_device
    noted.poisoned = plan.reasons()
    amplitude.conditions = Conditions(
        throttled_devices={device: RATE_TOLD},
        poisons=[
            Poison(insert_ids=frozenset(plan.named)),
            Poison(insert_ids=frozenset({plan.walled}), effect="waf_403"),
            Poison(insert_ids=frozenset({plan.huge}), effect="payload_413"),
        ],
    )
    stored, sent = amplitude.ledger.total_events, _expected_ids(stage)
    held = _ids_of_device(stage, stage.apps[0], device) & sent
    free = sent - held - noted.poisoned.keys()
    await stage.watch.until(
        lambda: free <= telling.stored() and telling.dead == len(noted.poisoned),
        "all others arrive, the poison dies",
    )
    noted.throttled_waiting = len(held - telling.stored())
    noted.throttled_others = amplitude.ledger.total_events - stored
    stage.view.say(
        f"{noted.throttled_waiting} events of the device are held, {noted.throttled_others} of "
        f"others arrived; {telling.dead} dead letters"
    )
    amplitude.conditions.throttled_devices = {}


async def kill_relay(telling: Telling) -> None:
    """SIGKILL in the middle of traffic, and once more soon after."""
    telling.stage.view.begin_act(
        "6. SIGKILL", "twice in the middle of traffic, with uploads stored and not yet answered"
    )
    await telling.during("kill", partial(_kill_twice, telling))


async def _kill_twice(telling: Telling) -> None:
    stage = telling.stage
    began, planned = stage.answered, _planned(stage.script.flows["kill"])
    for share in _KILLED_AT:
        enough = partial(_has_answered, stage, began + round(planned * share))
        await stage.watch.until(enough, "traffic flows")
        await _kill(telling, last_request=began + planned)


async def _kill(telling: Telling, last_request: int) -> None:
    stage, noted = telling.stage, telling.measured
    faults = stage.sandbox.amplitude.faults
    faults.add("slow", stored=True, count=2, delay_s=STUCK_ANSWER_S)
    await stage.watch.until(
        lambda: (
            not faults.active()
            and telling.in_flight > 0
            and (stage.open_requests > 0 or stage.answered >= last_request)
        ),
        "uploads and requests are under way",
    )
    began_s = stage.clock.monotonic_s()
    in_flight, open_requests = telling.in_flight, stage.open_requests
    await stage.process.kill()
    stage.view.say(
        f"killed: {in_flight} events in flight, {open_requests} requests of OneSignal open"
    )
    await stage.start_relay()
    restart_s = stage.clock.monotonic_s() - began_s
    faults.clear()
    stage.view.say(f"started again on the same folder, ready after {restart_s:.1f} s")
    noted.kills += 1
    noted.kill_in_flight += in_flight
    noted.kill_open += open_requests
    noted.restart_s = max(noted.restart_s, restart_s)


def _has_answered(stage: Stage, requests: int) -> bool:
    return stage.answered >= requests


def _planned(flows: Sequence[Flow]) -> int:
    return sum(len(flow.events) for flow in flows)


def _expected_ids(stage: Stage) -> set[str]:
    """Return the ids of the act's events that are to reach Amplitude."""
    wanted = {name for names in stage.script.wanted.values() for name in names}
    flows = stage.script.flows["poison"]
    return wanted & {str(event["event"]["id"]) for flow in flows for event in flow.events}


def _ids_of_device(stage: Stage, app: App, device: str) -> set[str]:
    return {
        str(event["event"]["id"])
        for flow in stage.script.flows["poison"]
        if flow.app == app
        for event in flow.events
        if event["event"]["subscription_id"] == device
    }
