"""The kernel of the maximum mean discrepancies: that of the code of arXiv 2507.01806."""

from __future__ import annotations

import numpy as np

#: Its widths. They are fixed: a distance between two datasets does not depend on a third, as with a median heuristic.
WIDTHS = (0.2, 0.5, 0.9, 1.3)


def kernel(squared: np.ndarray) -> np.ndarray:
    """k(x, y) = Σ_a a² / (a² + ‖x - y‖²) over the widths a.

    A mixture of Gaussians over their widths in any dimension, so positive definite and characteristic: the mean
    discrepancy is 0 between equal distributions alone.

    Parameters
    ----------
    squared : numpy.ndarray
        ‖x - y‖².

    Returns
    -------
    numpy.ndarray of the same shape
        In (0, 4], 4 where x = y.
    """
    total = np.zeros_like(squared, dtype=np.float64)
    for width in WIDTHS:
        total += width**2 / (width**2 + squared)
    return total
