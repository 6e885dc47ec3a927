"""softmin, the core of the attentional operators."""

from __future__ import annotations

import numpy as np

from lorameta.errors import UsageError


def softmin(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """wᵢ = exp(-dᵢ / T) / Σⱼ exp(-dⱼ / T).

    The unique minimiser over the simplex of ⟨w, d⟩ + T Σ w ln w: near datasets, at the price of entropy. Adding a
    constant to all scores changes nothing, and ‖w(d) - w(d′)‖₁ ≤ ‖d - d′‖_∞ / T.

    Parameters
    ----------
    scores : numpy.ndarray of shape (N,), finite
        d, any real numbers.
    temperature : float
        T in [0, ∞], in the unit of the scores. 0 is the limit T → 0: the smallest score takes all, equals share.
        ∞ is the uniform average.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        On the simplex.

    Raises
    ------
    UsageError
        If the temperature is negative or no number.

    References
    ----------
    Arabpour, Sáez de Ocáriz Borde, Kratsios, arXiv 2507.01806 (T = 1); Boyd and Vandenberghe, Convex Optimization,
    section 3.3 (log-sum-exp and negative entropy are conjugate).
    """
    if not temperature >= 0:
        raise UsageError(f"the temperature must be between 0 (nearest) and inf (uniform); got {temperature}")
    scores = np.asarray(scores, dtype=np.float64)
    if temperature == 0:
        weights = (scores == scores.min()).astype(np.float64)
    elif temperature == np.inf:
        weights = np.ones_like(scores)
    else:
        # The largest exponent is 0, so nothing overflows but the quotient of a far score, whose weight is 0 then.
        with np.errstate(over="ignore", under="ignore"):
            weights = np.exp(-(scores - scores.min()) / temperature)
    return weights / weights.sum()
