"""`Counting`: how long work tells whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

#: f(what is done, total, unit) → a context manager that gives f(count), called after each piece of work.
Counting = Callable[[str, int, str], AbstractContextManager[Callable[[int], object]]]
