"""How long to wait before an attempt is repeated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackOff:
    """The kubelet's restarts: the first at once, then `initial` doubling to `most` seconds, anew after `reset`."""

    initial: float = 10.0
    most: float = 300.0
    reset: float = 600.0

    def delay(self, steps: int) -> float:
        """Seconds before the restart number `steps` (from 0)."""
        return 0.0 if steps == 0 else min(self.most, self.initial * 2.0 ** min(steps - 1, 32))

    def steps(self, before: int, ran_for: float) -> int:
        """The number of restarts to count after an attempt that ran for so many seconds."""
        return 0 if ran_for >= self.reset else before


RETRY = BackOff(initial=1.0, most=60.0)
"""For what is not the container's fault (a full disk, a missing root filesystem): soon, and again."""
