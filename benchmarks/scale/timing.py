"""Seconds and memory of a piece of work, in the process that does it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np


def resident() -> float:
    """Resident memory now, GB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e9


def peak() -> float:
    """Largest resident memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_halves(work: Callable[[np.ndarray], Any], array: np.ndarray) -> None:
    """One thread a core, each with its part."""
    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, np.array_split(array, count)))


def alternately(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def weights_of(count: int) -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.ones(count))
