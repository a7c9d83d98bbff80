"""How a run ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        seed: The run's seed.
        wrong: What was wrong, in sentences.
        fingerprint: Of every step.
        steps: How many there were.
        processes: Processes started.
        events: Events sent to relay.
        lasted_s: Virtual seconds.
        tail: The last steps.
    """

    seed: int
    wrong: tuple[str, ...]
    fingerprint: str
    steps: int
    processes: int
    events: int
    lasted_s: float
    tail: tuple[str, ...]

    def describe(self) -> str:
        """Return the run in a few lines, with the command to repeat it if it failed."""
        lines = [
            (
                f"seed {self.seed}: {self.steps} steps, {self.processes} processes, "
                f"{self.events} events, {self.lasted_s:.0f} virtual seconds, "
                f"fingerprint {self.fingerprint}"
            )
        ]
        if self.wrong:
            command = f"python -m tests.simulation --seed {self.seed} --verbose"
            lines += [*self.wrong[:10], f"see it: {command}"]
        return "\n".join(lines)
