"""The normalized operator: softmin of the standardised distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.operator.context import Context
from lorameta.operator.softmin import softmin


def normalized(distances: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Compute w = softmin(z / T) with z = (d - mean d) / std d over the row of distances.

    Unit and spread of the distance no longer matter: d and a d + b (a > 0) give the same weights, and T counts
    standard deviations.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,), finite
    temperature : float
        In [0, inf], see :func:`lorameta.operator.softmin.softmin`.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        On the simplex; uniform if all distances are equal (up to rounding).

    References
    ----------
    "Normalized" in arXiv 2507.01806, there with T = 1. The paper's code standardises each row together with the
    dataset's distance 0 to itself; a dataset that is not of the bank has no such entry, so here it is left out.

    Examples
    --------
    >>> d = np.array([1.0, 2.0, 3.0])
    >>> normalized(d).round(3)
    array([0.725, 0.213, 0.063])
    >>> np.allclose(normalized(d), normalized(10 * d + 7))
    True
    """
    return softmin(standardised(distances), temperature)


def standardised(distances: np.ndarray) -> np.ndarray:
    """Compute z = (d - mean d) / std d, with the population's standard deviation; 0 where all are equal up to rounding.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,), finite

    Returns
    -------
    numpy.ndarray of shape (N,), float64
    """
    distances = np.asarray(distances, dtype=np.float64)
    # Scaled to [-1, 1] first, so that no square overflows or vanishes; equal distances are 0 exactly from here on.
    scaled = distances / (np.abs(distances).max() or 1.0)
    scaled = scaled - scaled.min()
    centred = scaled - scaled.mean()
    std = float(np.sqrt(np.square(centred).mean()))
    # Distances that differ by rounding only are equal; their z-scores would be noise.
    equal = std <= 8 * np.finfo(np.float64).eps
    return np.zeros_like(centred) if equal else centred / std


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by the distances alone."""
    return normalized(context.distances, temperature=context.temperature), {}
