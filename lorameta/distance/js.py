"""The Jensen-Shannon divergence of token histograms."""

from __future__ import annotations

import numpy as np

from lorameta.distance.densities import SMOOTHING, densities, on_token_counts
from lorameta.distance.registry import Distance


def js(target: np.ndarray, bank: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """JS = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q) / 2, natural logarithm, no square root.

    Symmetric, and at most ln 2 (no token in common). Its square root is a metric, itself it is not.

    Parameters
    ----------
    target : numpy.ndarray of shape (V,)
        Token counts of the dataset.
    bank : numpy.ndarray of shape (N, V)
        Token counts of the bank's datasets.
    smoothing : float
        ε of :func:`lorameta.distance.densities`.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        In [0, ln 2], and 0 where the histograms are proportional.

    References
    ----------
    Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 37 (1991).
    Endres and Schindelin, A new metric for probability distributions, IEEE Trans. Inf. Theory 49 (2003).
    Logarithm and smoothing: the code of arXiv 2507.01806 (which does not normalise after smoothing).
    """
    p, q = densities(target, smoothing), densities(bank, smoothing)
    middle = (p + q) / 2
    # p + q = 2m, so every token's share of the sum is non-negative; what rounding takes from it is put back.
    shares = np.maximum(p * np.log(p / middle) + q * np.log(q / middle), 0.0)
    return np.minimum(shares.sum(axis=-1) / 2, np.log(2.0))


JS = Distance("js", "tokens", on_token_counts(js), metric=False, doc="Jensen-Shannon divergence of token histograms")
