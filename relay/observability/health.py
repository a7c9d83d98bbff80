"""Whether the process is alive and accepts events: `/healthz`, `/readyz` and the watchdog."""

from collections.abc import Mapping
from dataclasses import dataclass

from relay.heartbeat import Heartbeat
from relay.ingest.admission import AdmissionControl

OK = "ok"


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a health question.

    Attributes:
        checks: The state of each part; `ok` where nothing is wrong.
    """

    checks: Mapping[str, str]

    @property
    def is_ok(self) -> bool:
        """Whether every check is `ok`."""
        return all(word == OK for word in self.checks.values())


class Health:
    """Checks every loop of the process."""

    def __init__(self, heartbeats: Mapping[str, Heartbeat], admission: AdmissionControl) -> None:
        self._heartbeats = heartbeats
        self._admission = admission

    def live(self) -> Report:
        """Report each loop: `ok`, or `stuck` without a heartbeat in time."""
        checks = {
            name: OK if heartbeat.is_alive else "stuck"
            for name, heartbeat in self._heartbeats.items()
        }
        return Report(checks)

    def ready(self) -> Report:
        """Report whether new events are accepted."""
        closed = self._admission.reject_reason
        loops = OK if self.live().is_ok else "stuck"
        return Report({"intake": closed or OK, "loops": loops})
