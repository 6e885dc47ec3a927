"""The nearest adapter alone: the baseline that any mixing has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.operator.context import Context


def nearest(distances: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Put all weight on the smallest distance; among equals, on the first.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,), finite
    temperature : float
        Ignored; every operator takes it.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        A unit vector.

    Examples
    --------
    >>> nearest(np.array([0.5, 0.2, 0.2]))
    array([0., 1., 0.])
    """
    weights = np.zeros(len(distances))
    weights[np.argmin(distances)] = 1.0
    return weights


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by the distances alone."""
    return nearest(context.distances), {}
