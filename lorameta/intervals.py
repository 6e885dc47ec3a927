"""Confidence intervals of the means over the rows of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000


def wilson(successes: int, rows: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Examples
    --------
    >>> low, high = wilson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.2775)
    """
    from scipy.stats import binomtest

    found = binomtest(successes, rows).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def bootstrap(
    values: Sequence[float], weights: Sequence[float] | None = None, *, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of Σ values / Σ weights over the rows; of the mean without weights.

    Parameters
    ----------
    values : sequence of float
        One per row.
    weights : sequence of float, optional
        One per row, such as its number of tokens.
    level : float
        In (0, 1).
    seed : int
        Of the resamples.

    Returns
    -------
    low, high : float
        The value itself, twice, of a single row: it says nothing about other rows.
    """
    from scipy.stats import bootstrap as resampled

    above = np.asarray(values, dtype=np.float64)
    below = np.ones_like(above) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(above) < 2:
        value = float(above.sum() / below.sum())
        return value, value

    def ratio(x: np.ndarray, y: np.ndarray, axis: int = -1) -> Any:
        return x.sum(axis=axis) / y.sum(axis=axis)

    found = resampled(
        (above, below), ratio, paired=True, vectorized=True, method="percentile", confidence_level=level,
        n_resamples=RESAMPLES, batch=max(1, 10**7 // len(above)), rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
