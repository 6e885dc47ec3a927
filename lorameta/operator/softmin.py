"""softmin, the core of the attentional operators."""

from __future__ import annotations

import numpy as np

from lorameta.errors import UsageError


def softmin(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Compute wᵢ = exp(-dᵢ / T) / Σⱼ exp(-dⱼ / T).

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

    Examples
    --------
    >>> softmin(np.array([0.0, np.log(3.0)]))
    array([0.75, 0.25])
    >>> softmin(np.array([0.0, 1.0]), 0.0), softmin(np.array([0.0, 1.0]), np.inf)
    (array([1., 0.]), array([0.5, 0.5]))
    """
    if not temperature >= 0:
        raise UsageError(f"the temperature must be between 0 (nearest) and inf (uniform); got {temperature}")
    scores = np.asarray(scores, dtype=np.float64)
    # Each value is computed once, so that equal scores get equal weights to the last bit on every processor.
    values, place = np.unique(scores, return_inverse=True)
    if temperature == 0:
        powers = (values == values[:1]).astype(np.float64)
    elif temperature == np.inf:
        powers = np.ones_like(values)
    else:
        # The largest exponent is 0, so nothing overflows except the quotient of a far score, whose weight is 0 then.
        with np.errstate(over="ignore", under="ignore"):
            powers = np.exp(-(values - values[:1]) / temperature)
    weights = powers[place.reshape(scores.shape)]
    return weights / weights.sum()
