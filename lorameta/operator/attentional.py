"""The attentional operator: softmin of the distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.operator.context import Context
from lorameta.operator.softmin import softmin


def attentional(distances: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Compute w = softmin(d / T).

    The temperature has the unit of the distance. A distance of small range, such as JS (at most ln 2), needs a small
    temperature: at T = 1 its weights are nearly uniform, no two differ by more than the factor 2.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,), finite
    temperature : float
        In [0, inf], see :func:`lorameta.operator.softmin.softmin`.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        On the simplex.

    References
    ----------
    "Attentional" in arXiv 2507.01806, there with T = 1.

    Examples
    --------
    >>> attentional(np.array([0.0, 1.0]), temperature=0.5).round(3)
    array([0.881, 0.119])
    """
    return softmin(distances, temperature)


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by the distances alone."""
    return attentional(context.distances, temperature=context.temperature), {}
