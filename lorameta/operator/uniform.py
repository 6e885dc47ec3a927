"""The average of the whole bank: the baseline that shows whether distances matter."""

from __future__ import annotations

import numpy as np


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
