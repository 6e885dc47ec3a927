"""How long a run of many trainings still takes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence


def pace(finished: Iterable[tuple[float, float]], measured: Iterable[float] = ()) -> float | None:
    """Return the seconds a unit of work.

    Parameters
    ----------
    finished : iterable of (work, seconds)
        Of the tasks that are done; they decide, where there are any.
    measured : iterable of float
        Seconds a unit in tasks that run, from two steps or more.

    Returns
    -------
    float or None
        None as long as nothing was measured.
    """
    pairs = list(finished)
    work = sum(amount for amount, _ in pairs)
    if work > 0:
        return sum(seconds for _, seconds in pairs) / work
    values = list(measured)
    return sum(values) / len(values) if values else None


def time_left(running: Sequence[float], waiting: Sequence[float], workers: int) -> float:
    """Return the seconds until the last of some tasks is done, each given to the first worker that is free, in order.

    Parameters
    ----------
    running : sequence of float
        Seconds that each task in work still takes.
    waiting : sequence of float
        Seconds that each other task takes.
    workers : int
        At least 1.

    Returns
    -------
    float
    """
    free = [*map(float, running), *[0.0] * (workers - len(running))]
    heapq.heapify(free)
    last = max(free, default=0.0)
    for seconds in waiting:
        end = heapq.heappop(free) + seconds
        heapq.heappush(free, end)
        last = max(last, end)
    return last
