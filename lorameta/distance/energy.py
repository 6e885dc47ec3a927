"""The energy distance of samples of sentence embeddings."""

from __future__ import annotations

import numpy as np

from lorameta.distance.registry import Distance
from lorameta.distance.samples import on_samples, own_pair_means, pair_means

_ROUNDING = 64 * np.finfo(np.float64).eps


def energy(sample: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Compute (2 E‖X - Y‖ - E‖X - X′‖ - E‖Y - Y′‖)^½ with X, X′ from one sample and Y, Y′ from the other.

    It is a metric on the samples' empirical distributions. As in ``scipy.stats.energy_distance``, the square root is
    taken.

    Parameters
    ----------
    sample : numpy.ndarray of shape (s, d)
    samples : numpy.ndarray of shape (N, s′, d)
        Shorter samples end in rows of NaN.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        At least 0, in the root of the unit of the embeddings. The square is accurate to 1e-12, and 0 where it is no
        larger than its rounding error.

    Notes
    -----
    scipy has it in one dimension only, and POT not at all. The expectations are over all pairs, a row with itself
    included: samples of one dataset are thus a distance apart that shrinks with their size.

    References
    ----------
    Székely and Rizzo, Energy statistics: a class of statistics based on distances, J. Stat. Plan. Inference 143 (2013).

    Examples
    --------
    >>> import numpy as np
    >>> zero, one = np.zeros((1, 1)), np.ones((1, 1))
    >>> energy(zero, np.stack([zero, one, 2 * one])).round(3)
    array([0.   , 1.414, 2.   ])
    """
    return _compare(sample, samples, own_pair_means(_length, samples))


def _length(squared: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squared, 0.0))


def _compare(sample: np.ndarray, samples: np.ndarray, within: np.ndarray) -> np.ndarray:
    between = 2 * pair_means(_length, sample, samples)
    squared = between - within - own_pair_means(_length, sample[None])
    # The root would make 1e-8 out of a rounding of 1e-16.
    return np.sqrt(np.where(squared > _ROUNDING * between, squared, 0.0))


ENERGY = Distance(
    "energy",
    "sentence",
    on_samples(_compare, _length),
    metric=True,
    doc="energy distance of samples of their sentence embeddings",
)
