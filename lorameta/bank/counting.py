"""`Counting`: how long work tells whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

#: f(what is done, total, unit) → a context manager that gives f(count), called after each part of the work.
Counting = Callable[[str, int, str], AbstractContextManager[Callable[[int], object]]]


def silent(doing: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], object]]:
    """Show nothing."""
    return nullcontext(lambda count: None)
