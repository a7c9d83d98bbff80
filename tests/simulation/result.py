"""How a run ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        seed: Which run.
        wrong: What was wrong, in sentences.
        fingerprint: Of every step.
        steps: How many there were.
        lives: Processes that began.
        events: Events sent to relay.
        lasted_s: Virtual seconds.
        tail: The last steps.
    """

    seed: int
    wrong: tuple[str, ...]
    fingerprint: str
    steps: int
    lives: int
    events: int
    lasted_s: float
    tail: tuple[str, ...]

    def describe(self) -> str:
        """Return the run in a few lines, with how to see it again if it failed."""
        lines = [
            (
                f"seed {self.seed}: {self.steps} steps, {self.lives} lives, {self.events} events,"
                f" {self.lasted_s:.0f} virtual seconds, fingerprint {self.fingerprint}"
            )
        ]
        if self.wrong:
            command = f"python -m tests.simulation --seed {self.seed} --verbose"
            lines += [*self.wrong[:10], f"see it: {command}"]
        return "\n".join(lines)
