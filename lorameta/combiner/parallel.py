"""Work that is done module by module, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(work: Callable[[Key], Result], keys: Iterable[Key]) -> dict[Key, Result]:
    """`work` on every key, in threads: one per core, each with a single BLAS thread.

    A product of the size of one module is too small to be worth dividing, and numpy lets go of the interpreter while
    it computes. The results do not depend on the number of cores.
    """
    from threadpoolctl import threadpool_limits

    names = list(keys)
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(max(1, min(cores(), len(names)))) as pool:
        return dict(zip(names, pool.map(work, names), strict=True))
