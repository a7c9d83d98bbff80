"""The steps in which all is well: start, a day's traffic, dead letters, an ordered stop."""

from relay.demo.environment import DATA_NAME, Environment
from relay.http.admin.schemas import Affected

_SHOWN = ("accepted", "duplicate", "filtered", "quarantined")


async def start(env: Environment) -> None:
    """Start relay on an empty folder."""
    env.display.say(f"OneSignal and Amplitude are played at {env.addresses.sandbox}")
    ready_s = await env.start_relay()
    env.display.say(
        f"relay is process {env.process.pid}, ready after {ready_s:.1f} s; "
        f"its data is in {env.process.log_path.with_name(DATA_NAME)}"
    )


async def send_traffic(env: Environment) -> None:
    """Send events of all kinds and shapes, until Amplitude has them."""
    await env.send("traffic")
    await env.status.until_drained("everything reaches Amplitude")
    receipts = [recorder.receipts for recorder in env.stand_ins.deliveries.values()]
    counts = [f"{sum(receipt[name] for receipt in receipts)} {name}" for name in _SHOWN]
    env.display.say(f"relay's answers so far: {', '.join(counts)}")


async def drain(env: Environment) -> None:
    """Wait until nothing is pending after the SIGKILLs."""
    await env.status.until_drained("the outbox is empty")
    env.display.say("nothing waits any more")


async def retry_dead_letter(env: Environment) -> None:
    """Retry the dead letter that the firewall lets through now."""
    letters = await env.dead_letters()
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
            await env.api.post("/dead-letters/retry", Affected, {"ids": [letter.id]})
            await env.status.until(lambda: retried in env.stand_ins.stored_ids(), "it arrives")
            env.display.say(f"{retried[:8]} was retried and arrived")


async def stop(env: Environment) -> None:
    """End relay with SIGTERM."""
    await env.segments.stop()
    began_s = env.clock.monotonic_s()
    env.notes.stop_code = await env.process.stop()
    env.notes.stop_s = env.clock.monotonic_s() - began_s
    env.status.latest = None
    env.display.say(f"exit code {env.notes.stop_code} after {env.notes.stop_s:.1f} s")
