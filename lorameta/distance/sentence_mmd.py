"""The maximum mean discrepancy of samples of sentence embeddings."""

from __future__ import annotations

import numpy as np

from lorameta.distance.kernel import kernel
from lorameta.distance.registry import Distance
from lorameta.distance.samples import on_samples, own_pair_means, pair_means


def sentence_mmd(sample: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Compute MMD² = E k(X, X′) - 2 E k(X, Y) + E k(Y, Y′) with k of :func:`lorameta.distance.kernel.kernel`.

    The kernel is the paper's for tokens. Its widths, 0.2 to 1.3, suit unit vectors, which are at most 2 apart. As in
    `mmd`, no square root is taken; the square root would be a metric on the samples' empirical distributions.

    Parameters
    ----------
    sample : numpy.ndarray of shape (s, d)
    samples : numpy.ndarray of shape (N, s′, d)
        Shorter samples end in rows of NaN.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        In [0, 8]. Accurate to 1e-14, and 0 where rounding would make it negative.

    Notes
    -----
    The expectations are over all pairs, a row with itself included (the biased V-statistic, which is never negative).

    References
    ----------
    Gretton et al., A kernel two-sample test, JMLR 13 (2012).

    Examples
    --------
    >>> import numpy as np
    >>> zero, one = np.zeros((1, 1)), np.ones((1, 1))
    >>> sentence_mmd(zero, np.stack([zero, one])).round(3)
    array([0.   , 5.372])
    """
    return _compare(sample, samples, own_pair_means(kernel, samples))


def _compare(sample: np.ndarray, samples: np.ndarray, within: np.ndarray) -> np.ndarray:
    between = pair_means(kernel, sample, samples)
    return np.maximum(own_pair_means(kernel, sample[None]) - 2 * between + within, 0.0)


SENTENCE_MMD = Distance(
    "sentence_mmd",
    "sentence",
    on_samples(_compare, kernel),
    metric=False,
    doc="squared maximum mean discrepancy of samples of their sentence embeddings",
    root_metric=True,
)
