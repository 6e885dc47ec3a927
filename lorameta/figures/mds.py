"""Classical multidimensional scaling: points in the plane whose distances are near to given ones."""

from __future__ import annotations

import numpy as np

from lorameta.errors import UsageError


def classical_mds(distances: np.ndarray, dimensions: int = 2) -> tuple[np.ndarray, float]:
    """Return the coordinates from distances: the leading eigenvectors of -½ J D² J, with J = I - 11ᵀ/N.

    Exact for Euclidean distances of points in that many dimensions. An asymmetric matrix counts as (D + Dᵀ) / 2, and
    the diagonal as 0.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N, N)
        Finite, at least 0.
    dimensions : int
        From 1 to N.

    Returns
    -------
    coordinates : numpy.ndarray of shape (N, dimensions), float64
        Centred, the widest axis first; the largest entry of each axis is positive. An axis that the distances do not
        have is 0.
    share : float
        In [0, 1]: how much of Σ |eigenvalue| the axes carry.

    Raises
    ------
    UsageError
        If the matrix is not square, not finite or negative, or there are not that many axes.

    Notes
    -----
    scikit-learn has it as ``ClassicalMDS`` from 1.8 on, which needs Python 3.11; here Python 3.10 is enough.

    References
    ----------
    Torgerson, Multidimensional scaling: I. Theory and method, Psychometrika 17 (1952).
    """
    distances = square(distances)
    if not 1 <= dimensions <= len(distances):
        raise UsageError(f"{len(distances)} points have from 1 to {len(distances)} axes; got {dimensions}")
    if (distances < 0).any():
        raise UsageError(f"distances must be at least 0; the smallest is {distances.min()}")
    symmetric = (distances + distances.T) / 2
    np.fill_diagonal(symmetric, 0.0)
    gram = -0.5 * np.square(symmetric)
    gram = gram - gram.mean(axis=0) - gram.mean(axis=1, keepdims=True) + gram.mean()
    values, vectors = np.linalg.eigh(gram)
    leading, axes = values[::-1][:dimensions], vectors[:, ::-1][:, :dimensions]
    signs = np.where(axes[np.argmax(np.abs(axes), axis=0), np.arange(dimensions)] < 0, -1.0, 1.0)
    total = float(np.abs(values).sum())
    kept = np.maximum(leading, 0.0)
    return axes * signs * np.sqrt(kept), (float(kept.sum()) / total if total > 0 else 1.0)


def square(matrix: np.ndarray) -> np.ndarray:
    """`matrix` as float64 if it is a finite N × N matrix with N ≥ 1; UsageError otherwise."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise UsageError(f"a matrix of N × N numbers is wanted, N at least 1; got the shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise UsageError(f"the matrix must be finite; the entry ({row}, {column}) is {matrix[row, column]}")
    return matrix
