"""What work tells while it runs, to whoever listens."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Counts passes over rows and says what is going on; by itself it tells nobody.

    Parameters
    ----------
    tick : callable, optional
        Called with the number of passes that were just done.
    """

    def __init__(self, tick: Callable[[int], object] | None = None) -> None:
        self._tick = tick

    @classmethod
    def of(cls, listener: Progress | Callable[[int], object] | None) -> Progress:
        """`listener` as a `Progress`, whatever it is."""
        return listener if isinstance(listener, Progress) else cls(listener)

    def __call__(self, done: int = 1) -> None:
        """Say that `done` passes were done."""
        if self._tick is not None:
            self._tick(done)

    def start(self, doing: str, total: int | None = None) -> None:
        """Say what begins, and how many passes it takes if that is known."""
