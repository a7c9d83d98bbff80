"""When to try again."""

from dataclasses import dataclass
from random import Random

_MAX_DOUBLINGS = 62
"""Past it the cap has long decided; keeps the power of two within a float."""


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Exponential backoff with full jitter.

    Attributes:
        base_s: Longest first wait.
        cap_s: Longest wait of all.
    """

    base_s: float
    cap_s: float

    def delay_s(self, attempt: int, *, rng: Random) -> float:
        """Return how long to wait before attempt number `attempt + 1`.

        Full jitter: uniform in [0, min(cap_s, base_s * 2**(attempt - 1))], so that relays
        restarted together do not return together.

        Args:
            attempt: Attempts already made, from 1.
            rng: Source of chance; seeded in tests.

        Raises:
            ValueError: If `attempt` is below 1.

        Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
        """
        if attempt < 1:
            raise ValueError(f"attempt {attempt} was never made")
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
        return rng.uniform(0.0, ceiling_s)
