"""The 2-Wasserstein (Bures) distance of Gaussians fitted to sentence embeddings."""

from __future__ import annotations

import numpy as np

from lorameta.distance.registry import Distance
from lorameta.encoder.summary import DatasetSummary, Summaries


def gaussian(
    mean: np.ndarray,
    factor: np.ndarray,
    residual: float,
    means: np.ndarray,
    factors: np.ndarray,
    residuals: np.ndarray,
) -> np.ndarray:
    """Compute W₂ between N(m, FᵀF) ⊗ N(0, ρ) and each N(mᵢ, FᵢᵀFᵢ) ⊗ N(0, ρᵢ).

    W₂² = ‖m - mᵢ‖² + tr FᵀF + tr FᵢᵀFᵢ - 2 ‖F Fᵢᵀ‖_* + (√ρ - √ρᵢ)², with the nuclear norm ‖·‖_*.

    Parameters
    ----------
    mean : numpy.ndarray of shape (d,)
    factor : numpy.ndarray of shape (k, d)
        F; the covariance is FᵀF plus what the factor leaves out.
    residual : float
        ρ ≥ 0, the trace of what it leaves out.
    means : numpy.ndarray of shape (N, d)
    factors : numpy.ndarray of shape (N, k′, d)
    residuals : numpy.ndarray of shape (N,)

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        Not squared: a metric.

    Notes
    -----
    The formula of Gaussians has tr (S₁^½ S₂ S₁^½)^½, which for S = FᵀF is the nuclear norm of F₁F₂ᵀ: exact, and
    no d × d matrix is formed. By Procrustes tr S₁ + tr S₂ - 2 ‖F₁F₂ᵀ‖_* = min over orthogonal Q of ‖F₁ - Q F₂‖²_F
    with Q = U Vᵀ from the SVD F₁F₂ᵀ = U D Vᵀ; that is computed, as a sum of squares loses no digits near 0.

    What the factors leave out is known by its trace alone. It is taken for the variance of one further coordinate of
    its own, which keeps W₂ a metric and 0 between equals; for full covariances whose remainders are proportional to
    each other and orthogonal to the factors it is exact.

    References
    ----------
    Dowson and Landau, The Fréchet distance between multivariate normal distributions, J. Multivar. Anal. 12 (1982).
    Bhatia, Jain and Lim, On the Bures-Wasserstein distance between positive definite matrices, Expo. Math. 37 (2019).

    Examples
    --------
    Equal covariances: what remains is the distance of the means.

    >>> import numpy as np
    >>> spread = np.eye(2)
    >>> gaussian(np.zeros(2), spread, 0.0, np.array([[3.0, 4.0]]), spread[None], np.zeros(1)).round(6)
    array([5.])
    >>> gaussian(np.zeros(2), spread, 0.0, np.zeros((1, 2)), 2 * spread[None], np.zeros(1)).round(3)
    array([1.414])
    """
    k = max(factor.shape[0], factors.shape[1])
    ours = _with_rows(factor.astype(np.float64)[None], k)
    theirs = _with_rows(factors.astype(np.float64), k)
    u, _, vt = np.linalg.svd(ours @ theirs.transpose(0, 2, 1))
    bures = np.square(ours - (u @ vt) @ theirs).sum(axis=(1, 2))
    shift = np.square(mean.astype(np.float64) - means.astype(np.float64)).sum(axis=1)
    rest = np.square(np.sqrt(np.float64(residual)) - np.sqrt(residuals.astype(np.float64)))
    return np.sqrt(shift + bures + rest)


def _with_rows(factors: np.ndarray, k: int) -> np.ndarray:
    """Return the factors (N, k′, d) with rows of 0 added up to k; FᵀF stays the same."""
    return np.pad(factors, ((0, 0), (0, k - factors.shape[1]), (0, 0)))


def _of_summaries(target: DatasetSummary, bank: Summaries) -> np.ndarray:
    mean, factor, residual, _ = target.part("sentence")
    means, factors, residuals, _ = bank.part("sentence")
    return gaussian(mean, factor, residual, means, factors, residuals)


GAUSSIAN = Distance(
    "gaussian", "sentence", _of_summaries, metric=True, doc="Bures-Wasserstein distance of their sentence embeddings"
)
