"""Whether the process is alive and takes events, for `/healthz`, `/readyz` and the watchdog."""

from collections.abc import Mapping
from dataclasses import dataclass

from relay.heartbeat import Heartbeat
from relay.ingest.admission import AdmissionControl

OK = "ok"


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a health question.

    Attributes:
        checks: A word for each thing looked at; `ok` where it is well.
    """

    checks: Mapping[str, str]

    @property
    def is_ok(self) -> bool:
        """Whether everything is well."""
        return all(word == OK for word in self.checks.values())


class Health:
    """Looks at every loop of the process."""

    def __init__(self, heartbeats: Mapping[str, Heartbeat], admission: AdmissionControl) -> None:
        self._heartbeats = heartbeats
        self._admission = admission

    def live(self) -> Report:
        """Report on each loop: `ok`, or `stuck` when it has been silent for too long."""
        checks = {
            name: OK if heartbeat.is_alive else "stuck"
            for name, heartbeat in self._heartbeats.items()
        }
        return Report(checks)

    def ready(self) -> Report:
        """Report on whether new events are taken."""
        closed = self._admission.reject_reason
        loops = OK if self.live().is_ok else "stuck"
        return Report({"intake": closed or OK, "loops": loops})
