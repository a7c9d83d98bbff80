"""The steps about events: a day's traffic, faults of Amplitude, SIGKILL, dead letters.

Each step waits for facts, never for time alone, notes what it saw, and removes its faults at its
end. The first line of a step is the summary that the display shows.
"""

from functools import partial
from typing import Final

from relay.cli.listing import walk
from relay.demo.display import DOWN, Figures
from relay.demo.environment import DATA_NAME, Environment
from relay.http.admin.dead_letters import LIST_DEAD_LETTERS, RETRY_DEAD_LETTERS
from relay.http.admin.schemas import Choice, Listing
from relay.sandbox.amplitude.conditions import Conditions, Poison

_RECEIPT_COUNTS: Final = ("accepted", "duplicate", "filtered", "quarantined")

_THROTTLED_EPS: Final = 45
"""Events per second that Amplitude says a throttled device sends."""

_STUCK_ANSWER_S: Final = 20.0
"""Longer than relay lives after it: the SIGKILL comes first."""

_OUTAGE: Final = (
    ("refuse", 0.35, "it refuses connections"),
    ("503", 0.55, "it answers 503"),
    ("200_html", 0.70, "a proxy answers 200 with a page of HTML"),
)
"""Fault, the share of the step's events that are answered when it ends, and it in words."""

_STORED_WITHOUT_ANSWER: Final = ("reset", "504", "200_cut", "500", "reset", "200_empty")
"""How uploads end whose events Amplitude has stored."""

_KILLED_AT: Final = (0.3, 0.6)
"""Shares of the step's events that are answered when SIGKILL comes."""


async def start(env: Environment) -> None:
    """Stand-ins for both services, and a real relay."""
    env.display.say(f"OneSignal and Amplitude are played at {env.addresses.sandbox}")
    ready_s = await env.start_relay()
    env.display.say(
        f"relay is process {env.process.pid}, ready after {ready_s:.1f} s; "
        f"its data is in {env.process.log_path.with_name(DATA_NAME)}"
    )


async def send_traffic(env: Environment) -> None:
    """26 kinds of event in six kinds of body; some twice, broken, unknown or another app's."""
    await env.send("traffic")
    await env.status.until_drained("everything reaches Amplitude")
    receipts = [recorder.receipts for recorder in env.stand_ins.deliveries.values()]
    counts = [f"{sum(receipt[name] for receipt in receipts)} {name}" for name in _RECEIPT_COUNTS]
    env.display.say(f"relay's answers so far: {', '.join(counts)}")


async def refuse_key(env: Environment) -> None:
    """Amplitude refuses the smaller app's key for a while."""
    (first, second), notes = env.plan.apps, env.notes
    conditions = env.stand_ins.amplitude.conditions
    began_s, stored = env.clock.monotonic_s(), len(env.stand_ins.account(first).insert_ids)
    conditions.bad_keys = {second.api_key}
    await env.send("refused_key")

    def is_second_alone_halted() -> bool:
        larger, smaller = env.status.app(first.name), env.status.app(second.name)
        return bool(larger and larger.pending == 0 and smaller and smaller.delivery == "halted")

    await env.status.until(is_second_alone_halted, f"{second.name} halts, {first.name} delivers")
    waiting = env.status.app(second.name)
    notes.halted_waiting = 0 if waiting is None else waiting.pending
    notes.halted_delivered = len(env.stand_ins.account(first).insert_ids) - stored
    env.display.say(
        f"{second.name} is halted with {notes.halted_waiting} events on disk; "
        f"{notes.halted_delivered} events of {first.name} arrived meanwhile"
    )
    conditions.bad_keys = set()
    notes.halted_s = env.clock.monotonic_s() - began_s
    await env.status.until_drained(f"{second.name} resumes by itself")
    env.display.say(f"the key is valid again: {second.name} resumed by itself")


async def break_amplitude(env: Environment) -> None:
    """OneSignal goes on sending; relay goes on answering 200."""
    await env.while_sending("outage", partial(_break, env))
    await env.status.until_drained("everything from the outage is delivered")
    env.display.say("Amplitude is well again, and has everything")


async def _break(env: Environment) -> None:
    notes, stand_ins, faults = env.notes, env.stand_ins, env.stand_ins.amplitude.faults
    ledger = stand_ins.amplitude.ledger
    began_s, answered, stored = env.clock.monotonic_s(), stand_ins.ok_answers, ledger.total_events
    planned = env.plan.traffic.event_count("outage")
    for fault, share, words in _OUTAGE:
        faults.clear()
        faults.add(fault)
        await _until_answered(env, answered + round(planned * share), words)
        env.display.say(f"{words}: {env.status.total('pending')} events wait on relay's disk")
    notes.outage_answered = stand_ins.ok_answers - answered
    notes.outage_stored = ledger.total_events - stored
    notes.outage_pending = env.status.total("pending")
    notes.outage_s = env.clock.monotonic_s() - began_s
    faults.clear()
    for fault in _STORED_WITHOUT_ANSWER:
        faults.add(fault, stored=True, count=1)
    await env.status.until(lambda: not faults.active(), "six uploads lose their answer")
    env.display.say("six uploads were stored and their answers lost: relay must send them again")


async def poison_and_throttle(env: Environment) -> None:
    """Two events are named one at a time, one is too large, a firewall refuses one."""
    await env.while_sending("poison", partial(_poison, env))
    await env.status.until_drained("the throttled device's events are delivered")
    env.display.say("the device may send again: its events arrived")


async def _poison(env: Environment) -> None:
    notes, stand_ins, traffic = env.notes, env.stand_ins, env.plan.traffic
    amplitude, poison, device = stand_ins.amplitude, traffic.poison, traffic.fast_device
    notes.poisoned = poison.reasons()
    amplitude.conditions = Conditions(
        throttled_devices={device: _THROTTLED_EPS},
        poisons=[
            Poison(insert_ids=frozenset(poison.named)),
            Poison(insert_ids=frozenset({poison.firewalled}), effect="waf_403"),
            Poison(insert_ids=frozenset({poison.huge}), effect="payload_413"),
        ],
    )
    stored = amplitude.ledger.total_events
    first, second = (traffic.apps[app.name] for app in env.plan.apps)
    held = first.wanted_ids("poison", device)
    every = first.wanted_ids("poison") | second.wanted_ids("poison")
    free = every - held - notes.poisoned.keys()
    await env.status.until(
        lambda: free <= stand_ins.stored_ids() and env.status.total("dead") == len(notes.poisoned),
        "all others arrive, the poison becomes dead letters",
    )
    notes.throttled_waiting = len(held - stand_ins.stored_ids())
    notes.throttled_others = amplitude.ledger.total_events - stored
    env.display.say(
        f"{notes.throttled_waiting} events of the device are held, {notes.throttled_others} of "
        f"others arrived; {env.status.total('dead')} dead letters"
    )
    amplitude.conditions.throttled_devices = {}


async def kill_relay(env: Environment) -> None:
    """Twice in the middle of traffic, with uploads stored and not yet answered."""
    await env.while_sending("kill", partial(_kill_twice, env))


async def _kill_twice(env: Environment) -> None:
    began, planned = env.stand_ins.ok_answers, env.plan.traffic.event_count("kill")
    for share in _KILLED_AT:
        await _until_answered(env, began + round(planned * share), "events are answered")
        await _kill(env, last_answer=began + planned)


async def _kill(env: Environment, last_answer: int) -> None:
    notes, stand_ins = env.notes, env.stand_ins
    faults = stand_ins.amplitude.faults
    # Stored but not answered when relay dies: the next start must send them again.
    faults.add("slow", stored=True, count=2, delay_s=_STUCK_ANSWER_S)
    await env.status.until(
        lambda: (
            not faults.active()
            and env.status.total("in_flight") > 0
            and (stand_ins.open_requests > 0 or stand_ins.ok_answers >= last_answer)
        ),
        "uploads and requests are under way",
    )
    in_flight, open_requests = env.status.total("in_flight"), stand_ins.open_requests
    killed_at_s = env.clock.monotonic_s()
    await env.process.kill()
    env.display.say(
        f"killed: {in_flight} events in flight, {open_requests} requests of OneSignal open"
    )
    restart_s = await env.restart_relay(killed_at_s)
    faults.clear()
    env.display.say(f"started again on the same folder, ready after {restart_s:.1f} s")
    notes.kill_in_flight += in_flight
    notes.kill_open += open_requests


async def _until_answered(env: Environment, requests: int, what: str) -> None:
    await env.status.until(lambda: env.stand_ins.ok_answers >= requests, what)


async def drain(env: Environment) -> None:
    """Everything that waits reaches Amplitude."""
    await env.status.until_drained("the outbox is empty")
    env.display.say("nothing waits any more")


async def retry_dead_letter(env: Environment) -> None:
    """They are listed, and the one that the firewall refused is retried."""
    letters = [letter async for letter in walk(env.api, LIST_DEAD_LETTERS, Listing())]
    env.notes.dead_before_retry = {letter.insert_id: letter.reason for letter in letters}
    for letter in letters:
        env.display.say(
            f"{letter.app} {letter.insert_id[:8]} {letter.reason}: {letter.detail} "
            f"(attempts: {letter.attempts})"
        )
    env.stand_ins.amplitude.conditions.poisons = []
    retried = env.plan.traffic.poison.firewalled
    for letter in letters:
        if letter.insert_id == retried:
            env.notes.retried = retried
            await env.api.call(RETRY_DEAD_LETTERS, Choice(ids=[letter.id]))
            await env.status.until(lambda: retried in env.stand_ins.stored_ids(), "it arrives")
            env.display.say(f"{retried[:8]} was retried and arrived")


async def stop(env: Environment) -> None:
    """Relay ends in order."""
    await env.segments.stop()
    began_s = env.clock.monotonic_s()
    env.notes.stop_code = await env.process.stop()
    env.notes.stop_s = env.clock.monotonic_s() - began_s
    env.status.latest = None
    env.display.say(f"exit code {env.notes.stop_code} after {env.notes.stop_s:.1f} s")


def figures(env: Environment) -> list[Figures]:
    """Return what the display shows of every app, on both sides."""
    shown: list[Figures] = []
    for app in env.plan.apps:
        recorder, counts = env.stand_ins.deliveries[app.name], env.status.app(app.name)
        shown.append(
            {
                "app": app.name,
                "sent": recorder.requests,
                "answered 200": recorder.ok_answers,
                "pending on disk": counts.pending if counts else "?",
                "delivered": counts.delivered if counts else "?",
                "dead": counts.dead if counts else "?",
                "at Amplitude": len(env.stand_ins.account(app).insert_ids),
                "delivery": counts.delivery if counts else DOWN,
            }
        )
    return shown
