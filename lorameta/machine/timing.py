"""Timing what grows along a line: a fixed part and a part for each unit of work, from runs of growing size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

#: Tokens of the first timed run, and the factor from one run to the next.
FIRST, FACTOR = 16, 4
#: Seconds below which a run is made twice.
_SHORT = 0.25


@dataclass(frozen=True)
class Line:
    """Seconds by size, measured.

    Attributes
    ----------
    sizes : tuple of float
        Work of each run.
    seconds : tuple of float
        What it took.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, size: float) -> float:
        """Return the seconds for `size`: between two runs and beyond the last, along the line through the nearest two.

        Beyond the last run the slope is held between a third and the whole of proportional growth: a processor that
        was busy in one of the runs must not turn into a forecast.
        """
        if len(self.sizes) == 1:
            return self.seconds[0] * size / self.sizes[0]
        end = next((i for i, known in enumerate(self.sizes) if i and known >= size), len(self.sizes) - 1)
        (x0, x1), (y0, y1) = self.sizes[end - 1 : end + 1], self.seconds[end - 1 : end + 1]
        slope = (y1 - y0) / (x1 - x0)
        if size > x1:
            slope = min(max(slope, y1 / x1 / 3), y1 / x1)
        return max(y1 + slope * (size - x1), 0.0)

    def scaled(self, factor: float) -> Line:
        """Return the same sizes at `factor` times the seconds."""
        return Line(self.sizes, tuple(factor * value for value in self.seconds))


def measure(
    run: Callable[[int], object], largest: int, seconds: float, *, work: Callable[[int], float] = float
) -> Line:
    """Run something at growing sizes until the largest is reached or the time is spent.

    Parameters
    ----------
    run : callable
        Called with a size; once more at the first size beforehand, because first calls are slow.
    largest : int
        The size that is asked about.
    seconds : float
        In all, about: from the third run on, the size is the largest that should fit into what is left.
    work : callable
        Size → what its seconds are proportional to, up to a constant.

    Returns
    -------
    Line
    """
    size = min(FIRST, largest)
    run(size)
    line = Line((), ())
    while True:
        taken = _seconds(run, size)
        if taken < _SHORT:  # a second look costs little, and another process may have had the processor
            taken = min(taken, _seconds(run, size))
        line = Line((*line.sizes, work(size)), (*line.seconds, taken))
        if size == largest or sum(line.seconds) > seconds:
            return line
        wanted, left = min(size * FACTOR, largest), seconds - sum(line.seconds)
        if len(line.sizes) > 1:
            while wanted > size and line.at(work(wanted)) > left:
                wanted = int(0.8 * wanted)
            if wanted < 1.5 * size:  # too little more to learn from it
                return line
        size = wanted


def median_seconds(run: Callable[[], object], *, times: int = 7, seconds: float = 2.0) -> float:
    """Median time of up to `times` calls within `seconds`, after one that does not count."""
    run()
    taken: list[float] = []
    while len(taken) < times and (len(taken) < 2 or sum(taken) < seconds):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[len(taken) // 2]


def _seconds(run: Callable[[int], object], size: int) -> float:
    begun = time.perf_counter()
    run(size)
    return time.perf_counter() - begun
