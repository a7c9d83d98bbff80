"""Checks on how relay behaves: in an outage, between apps and devices, in its log, at its end."""

from relay.demo.checks.result import Result, unless
from relay.demo.evidence import Evidence


def scenario_completed(evidence: Evidence) -> Result:
    """Every step had the effect it waited for."""
    timeout = evidence.notes.timeout
    return Result("all steps" if not timeout else "not all steps", unless(not timeout, timeout))


def outage_harmless(evidence: Evidence) -> Result:
    """Events were accepted while Amplitude took none."""
    notes = evidence.notes
    latencies = sorted(ms for own in evidence.apps for ms in own.latencies_ms)
    p99 = latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0
    return Result(
        f"{notes.outage_answered} in {notes.outage_s:.1f} s, {notes.outage_pending} waited on "
        f"disk; 99 % of all answers within {p99:.0f} ms",
        unless(notes.outage_answered > 0, "none was answered")
        + unless(notes.outage_stored == 0, f"Amplitude took {notes.outage_stored} in the outage"),
    )


def apps_are_independent(evidence: Evidence) -> Result:
    """One app's refused key does not affect the other app."""
    notes = evidence.notes
    return Result(
        f"{notes.halted_s:.1f} s: {notes.halted_waiting} waited, "
        f"{notes.halted_delivered} of the other app arrived",
        unless(notes.halted_waiting > 0, "nothing waited")
        + unless(notes.halted_delivered > 0, "nothing of the other app arrived"),
    )


def devices_are_independent(evidence: Evidence) -> Result:
    """One throttled device does not affect the others."""
    notes = evidence.notes
    return Result(
        f"{notes.throttled_waiting} held, {notes.throttled_others} of others arrived",
        unless(notes.throttled_waiting > 0, "nothing was held")
        + unless(notes.throttled_others > 0, "nothing else arrived"),
    )


def log_is_clean(evidence: Evidence) -> Result:
    """The log holds no secret and no id of a user or device."""
    return Result(
        f"{evidence.log_lines} lines",
        tuple(evidence.leaks) + unless(evidence.log_lines > 0, "there is no log"),
    )


def ended_in_order(evidence: Evidence) -> Result:
    """SIGTERM ended relay with exit code 0."""
    notes = evidence.notes
    return Result(
        f"exit code {notes.stop_code} after {notes.stop_s:.1f} s",
        unless(notes.stop_code == 0, f"exit code {notes.stop_code}"),
    )
