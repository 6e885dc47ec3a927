"""Progress on the standard error: only in a terminal, and only for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from lorameta.machine.ticking import ticking

DELAY = 2.0
#: Bars that are open; while there is one, `waiting` writes nothing.
_bars = 0


def _terminal() -> TextIO:
    """Return the standard error itself, which may move the cursor: nothing of a file that others wrote is shown
    here."""
    return getattr(sys.stderr, "raw_stream", sys.stderr)


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Show what is being done and for how long, while the body runs."""
    if not sys.stderr.isatty():
        yield
        return
    start, shown = time.monotonic(), False

    def show(text: str) -> None:
        _terminal().write(f"\r{text}")
        _terminal().flush()

    def tick() -> None:
        nonlocal shown
        if not _bars:
            shown = True
            show(f"{doing} ... {time.monotonic() - start:.0f} s")

    try:
        with ticking(tick, first=DELAY):
            yield
    finally:
        if shown:
            show(" " * (len(doing) + 16) + "\r")


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
