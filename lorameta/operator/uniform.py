"""The average of the whole bank: the baseline that shows whether distances matter."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.operator.context import Context


def uniform(distances: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Give every adapter the weight 1/N, whatever the distances.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,)
    temperature : float
        Ignored; every operator takes it.

    Returns
    -------
    numpy.ndarray of shape (N,), float64

    Examples
    --------
    >>> uniform(np.array([0.5, 0.2]))
    array([0.5, 0.5])
    """
    return np.full(len(distances), 1.0 / len(distances))


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by the distances alone."""
    return uniform(context.distances), {}
