"""Progress on the standard error: only in a terminal, and only for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DELAY = 2.0
#: Bars that are open; while there is one, `waiting` writes nothing.
_bars = 0


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Show what is being done and for how long, while the body runs in one piece."""
    if not sys.stderr.isatty():
        yield
        return
    done, start = threading.Event(), time.monotonic()

    def tick() -> None:
        pause = DELAY
        while not done.wait(pause):
            pause = 1.0
            if _bars:
                continue
            sys.stderr.write(f"\r{doing} ... {time.monotonic() - start:.0f} s")
            sys.stderr.flush()
        if pause != DELAY:
            sys.stderr.write("\r" + " " * (len(doing) + 16) + "\r")
            sys.stderr.flush()

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()


@contextmanager
def counting(doing: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a bar that the returned function moves on; bytes ("B") as kB, MB, ..."""
    from tqdm import tqdm

    global _bars
    scale = unit == "B"
    unit = unit if scale else f" {unit}"
    with tqdm(total=total, desc=doing, unit=unit, unit_scale=scale, delay=DELAY, disable=None, leave=False) as line:
        _bars += 1
        try:
            yield line.update
        finally:
            _bars -= 1
