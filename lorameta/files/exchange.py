"""Two paths exchanged in one step, so that neither is ever without a file: ``rename`` cannot do it with directories.

Linux has ``renameat2`` with ``RENAME_EXCHANGE`` (on most file systems), macOS ``renamex_np`` with ``RENAME_SWAP``.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2


def exchange(one: Path, other: Path) -> bool:
    """Give each of two paths what the other has; whether that was done. False where system or file system cannot."""
    call = _call()
    if call is None:
        return False
    try:
        return call(os.fsencode(one), os.fsencode(other)) == 0
    except (OSError, ValueError):
        return False


@functools.cache
def _call() -> Callable[[bytes, bytes], int] | None:
    system = str(sys.platform)  # not a constant to the type checker
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if system.startswith("linux"):
            rename = library.renameat2  # glibc 2.28, musl 1.2.4
            rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
            return lambda one, other: rename(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE)
        if system == "darwin":
            swap = library.renamex_np
            swap.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
            return lambda one, other: swap(one, other, _RENAME_SWAP)
    except (OSError, AttributeError, TypeError):
        pass
    return None
