"""`ticking`: a function called once in a while from a thread, as long as a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ticking(tick: Callable[[], object], seconds: float = 1.0, *, first: float | None = None) -> Iterator[None]:
    """Call `tick` every so many seconds, for the first time after `first` if that is given."""
    over = threading.Event()

    def run() -> None:
        pause = seconds if first is None else first
        while not over.wait(pause):
            pause = seconds
            tick()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
