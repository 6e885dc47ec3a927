"""Wall time of the steps of a work."""

from __future__ import annotations

import time


class Clock:
    """Wall time between laps, in seconds, by the name of the step that ended."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a step; a name that comes again is added to."""
        now = time.perf_counter()
        self.laps[name], self._last = self.laps.get(name, 0.0) + now - self._last, now
