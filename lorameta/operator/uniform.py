"""The average of the whole bank: the baseline that shows whether distances matter."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.operator.context import Context


def uniform(distances: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """The weight 1/N for every adapter, whatever the distances.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,)
    temperature : float
        Ignored; every operator takes it.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
    """
    return np.full(len(distances), 1.0 / len(distances))


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by the distances alone."""
    return uniform(context.distances), {}
