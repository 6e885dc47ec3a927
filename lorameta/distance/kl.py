"""The Kullback-Leibler divergence of token histograms."""

from __future__ import annotations

import numpy as np

from lorameta.distance.densities import SMOOTHING, divergence, on_token_counts
from lorameta.distance.registry import Distance
from lorameta.encoder.counts import TokenCounts


def kl(target: np.ndarray, bank: TokenCounts | np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """Compute KL(target ‖ bank) = Σ_t p(t) ln(p(t) / q(t)), in nats.

    It measures how badly the bank's dataset explains the target, and is large where the bank's dataset lacks tokens
    that the target has. It is not symmetric and does not obey the triangle inequality.

    Parameters
    ----------
    target : numpy.ndarray of shape (V,)
        Token counts of the dataset.
    bank : TokenCounts or numpy.ndarray of shape (N, V)
        Token counts of the bank's datasets.
    smoothing : float
        ε > 0 of :func:`lorameta.distance.densities`. It bounds the result by ln(1 + 1/ε), 23 for 1e-10.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        At least 0; 0 where the histograms are proportional. Accurate to 12 digits, and to 1e-15 near 0.

    References
    ----------
    Kullback and Leibler, On information and sufficiency, Ann. Math. Statist. 22 (1951).
    Direction and smoothing: the code of arXiv 2507.01806 (which does not normalise after smoothing).

    Examples
    --------
    >>> import numpy as np
    >>> narrow, broad = np.array([1, 0]), np.array([1, 1])
    >>> kl(narrow, broad[None]).round(3)  # the broad dataset explains the narrow one
    array([0.693])
    >>> kl(broad, narrow[None]).round(3)  # and not the other way round
    array([10.82])
    """
    return divergence(_share, target, bank, smoothing)


def _share(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    # Σ p ln(p/q) = Σ (p ln(p/q) - p + q), whose terms are all non-negative: rounding cannot make the sum negative.
    return np.maximum(p * np.log(p / q) - p + q, 0.0)


KL = Distance("kl", "tokens", on_token_counts(kl), metric=False, doc="Kullback-Leibler divergence of their tokens")
