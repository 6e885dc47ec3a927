"""`Budget`: when a training ends, and where on the schedule of the learning rate it is."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Steps, time, or both; whichever is used up first ends the run.

    Attributes
    ----------
    steps : int or None
    seconds : float or None
    warm_up : int
        Steps in which the rate rises.
    """

    steps: int | None
    seconds: float | None
    warm_up: int

    def used(self, step: int, elapsed: float) -> float:
        """Return the share of the budget that is used up, in [0, 1], after `step` steps and `elapsed` seconds."""
        shares = [] if self.steps is None else [step / self.steps]
        if self.seconds is not None:
            shares.append(elapsed / self.seconds)
        return min(1.0, max(shares))

    def ends(self, step: int, elapsed: float, ahead: float) -> bool:
        """Check whether there is no time for another step that, with what must follow it, takes `ahead` seconds."""
        if self.steps is not None and step >= self.steps:
            return True
        return self.seconds is not None and elapsed + ahead > self.seconds

    def factor(self, step: int, elapsed: float) -> float:
        """Return the share of the learning rate for the step after `step`: a rise, then half a cosine over steps or
        time."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        return rise * 0.5 * (1 + math.cos(math.pi * self.used(step, elapsed)))
