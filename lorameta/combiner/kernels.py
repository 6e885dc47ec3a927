"""y += Σ wᵢ xᵢ over stored rows: by numba where it is installed (the extra ``fast``), else by numpy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np

from lorameta.files.tensors import widen

Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray], None]

#: Rows and words that numpy unpacks at once: half a megabyte, which stays in the processor's second cache.
_ROWS, _WORDS = 16, 8192
_ONE_COMPILER = threading.Lock()


def add_rows(bits: np.ndarray, dtype: str, weights: np.ndarray, total: np.ndarray, *, compile: bool = False) -> None:
    """Add the weighted rows to `total`, in place and in float32.

    16-bit numbers have to be unpacked. numba does that in registers, at four fifths of the speed of reading the
    mapped files; numpy goes through the cache and takes three times as long (benchmarks/results/scale.md).

    Parameters
    ----------
    bits : numpy.ndarray of shape (m, n)
        As stored: float32, float16, or bfloat16 as its bits in uint16.
    dtype : {"F32", "F16", "BF16"}
    weights : numpy.ndarray of shape (m,), float32
    total : numpy.ndarray of shape (n,), float32
    compile : bool
        Whether there is so much to add that a second for numba's import and compiler is well spent.
    """
    kernel = compiled(dtype) if compile and dtype != "F32" else None
    if kernel is not None and bits.flags.aligned and bits.flags.c_contiguous:
        kernel(bits.view(np.uint16), weights, total)
    elif dtype == "BF16" and bits.shape[1] % 2 == 0 and bits.flags.c_contiguous:
        _add_pairs(bits.view(np.uint32), weights, total)
    else:
        total += weights @ widen(bits, dtype)


def _add_pairs(pairs: np.ndarray, weights: np.ndarray, total: np.ndarray) -> None:
    """bfloat16 is the upper half of a float32, so a word of 32 bits holds two: one needs a shift, the other a mask."""
    words = np.empty((_ROWS, min(_WORDS, pairs.shape[1])), np.uint32)
    for top, left in product(range(0, len(pairs), _ROWS), range(0, pairs.shape[1], _WORDS)):
        panel, w = pairs[top : top + _ROWS, left : left + _WORDS], weights[top : top + _ROWS]
        buffer = words[: panel.shape[0], : panel.shape[1]]
        numbers = buffer.view(np.float32)
        place = total[2 * left : 2 * (left + panel.shape[1])]
        np.left_shift(panel, np.uint32(16), out=buffer)
        place[0::2] += w @ numbers
        np.bitwise_and(panel, np.uint32(0xFFFF0000), out=buffer)
        place[1::2] += w @ numbers


def compiled(dtype: str) -> Kernel | None:
    """Return the kernel of numba for a 16-bit dtype, compiled when first asked for; None without numba."""
    with _ONE_COMPILER:
        return numba_kernel(dtype)


@cache
def numba_kernel(dtype: str) -> Kernel | None:
    """As :func:`compiled`, for one thread at a time."""
    try:
        from numba import njit, types
    except ImportError:
        return None
    f4, u4 = np.float32, np.uint32
    if dtype == "BF16":

        def number(u):  # type: ignore[no-untyped-def]
            return u4(u4(u) << u4(16)).view(f4)

    else:

        def number(u):  # type: ignore[no-untyped-def]
            # Sign, exponent and fraction at the places they have in float32: the number is then 2^112 times too small,
            # zeros and subnormals included. Infinity and NaN would become numbers; no checked bank holds them.
            return u4((u4(u) & u4(0x8000)) << u4(16) | (u4(u) & u4(0x7FFF)) << u4(13)).view(f4) * f4(2.0**112)

    number = njit(number, inline="always")

    def add(x, w, y):  # type: ignore[no-untyped-def]
        m, n = x.shape
        i = 0
        while i + 4 <= m:  # four rows at once, so that y is read and written a quarter as often
            w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
            for j in range(n):
                y[j] += (w0 * number(x[i, j]) + w1 * number(x[i + 1, j])) + (
                    w2 * number(x[i + 2, j]) + w3 * number(x[i + 3, j])
                )
            i += 4
        while i < m:
            for j in range(n):
                y[j] += w[i] * number(x[i, j])
            i += 1

    signature = types.void(types.Array(types.uint16, 2, "C", readonly=True), types.float32[::1], types.float32[::1])
    return njit(signature, nogil=True, error_model="numpy", fastmath={"contract"})(add)
