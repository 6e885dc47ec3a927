"""Progress on the standard error: only in a terminal, and only for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

DELAY = 2.0
#: Bars that are open; while there is one, `waiting` writes nothing.
_bars = 0


def _terminal() -> TextIO:
    """The standard error itself, which may move the cursor: nothing of a file that others wrote is shown here."""
    return getattr(sys.stderr, "raw_stream", sys.stderr)


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
            _terminal().write(f"\r{doing} ... {time.monotonic() - start:.0f} s")
            _terminal().flush()
        if pause != DELAY:
            _terminal().write("\r" + " " * (len(doing) + 16) + "\r")
            _terminal().flush()

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()


@contextmanager
def counting(doing: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a bar that the returned function moves on; bytes ("B") as kB, MB, ..."""
    from tqdm import tqdm

    global _bars
    scale = unit == "B"
    unit = unit if scale else f" {unit}"
    options = {"unit": unit, "unit_scale": scale, "delay": DELAY, "disable": None, "leave": False}
    with tqdm(total=total, desc=doing, file=_terminal(), **options) as line:
        _bars += 1
        try:
            yield line.update
        finally:
            _bars -= 1
