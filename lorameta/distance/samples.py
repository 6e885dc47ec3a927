"""Means over all pairs of rows of two samples, for one dataset against a whole bank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorameta.distance.registry import once_per_bank
from lorameta.encoder.summary import DatasetSummary, Summaries
from lorameta.errors import UsageError

BLOCK = 2**21  # numbers of the bank's samples that are worked off at once
_NEAR = 1e-6  # of the squared lengths: below it the difference of the formula has lost its digits


def pair_means(function: Callable[[np.ndarray], np.ndarray], sample: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the mean of f(‖x - y‖²) over the rows x of one sample and the rows y of each other one.

    Parameters
    ----------
    function : callable
        f, elementwise.
    sample : numpy.ndarray of shape (s, d)
    samples : numpy.ndarray of shape (N, s′, d)
        Shorter samples end in rows of NaN.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
    """
    ours, lengths = as_sample(sample, samples), row_counts(samples)
    step = max(1, BLOCK // max(1, samples[:1].size))
    found = np.empty(len(samples))
    for start in range(0, len(samples), step):
        rows = slice(start, start + step)
        present = np.arange(samples.shape[1]) < lengths[rows, None]
        theirs = np.where(present[:, :, None], samples[rows], 0.0).astype(np.float64)
        values = function(_squared(ours, theirs.reshape(-1, theirs.shape[2]))).mean(axis=0)
        found[rows] = (values.reshape(present.shape) * present).sum(axis=1) / lengths[rows]
    return found


def own_pair_means(function: Callable[[np.ndarray], np.ndarray], samples: np.ndarray) -> np.ndarray:
    """Return the mean of f(‖x - x′‖²) over all pairs of rows of each sample, a row with itself included; (N,)."""
    found = np.empty(len(samples))
    for i, n in enumerate(row_counts(samples)):
        found[i] = pair_means(function, samples[i, :n], samples[i : i + 1, :n])[0]
    return found


def on_samples(
    compare: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], function: Callable[[np.ndarray], np.ndarray]
) -> Callable[[DatasetSummary, Summaries], np.ndarray]:
    """Lift (sample, samples, own pair means of the samples) → (N,) to summaries; the last are found once per bank."""

    @once_per_bank
    def within(bank: Summaries) -> np.ndarray:
        return own_pair_means(function, bank.part("sentence")[3])

    def compared(target: DatasetSummary, bank: Summaries) -> np.ndarray:
        return compare(target.part("sentence")[3], bank.part("sentence")[3], within(bank))

    return compared


def as_sample(sample: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """One dataset's sample in float64; UsageError if it has no row, or NaN, or is not like those of the bank."""
    if sample.ndim != 2 or samples.ndim != 3 or sample.shape[1] != samples.shape[2]:
        raise UsageError(f"samples of the shapes {sample.shape} and {samples.shape} are not (s, d) and (N, s′, d)")
    if not sample.size or not np.isfinite(sample).all():
        raise UsageError("a sample must have at least one row, and no NaN or infinite number")
    return sample.astype(np.float64)


def row_counts(samples: np.ndarray) -> np.ndarray:
    """Return how many rows each of the samples (N, s, d) has that are not padding; UsageError if one has none."""
    lengths = np.count_nonzero(~np.isnan(samples[:, :, 0]), axis=1)
    if not lengths.all():
        raise UsageError("every sample must have at least one row")
    return lengths


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """‖x - y‖² for all pairs of rows, (m, n): one matrix product, a ninth of the time of scipy's ``cdist``."""
    lengths = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
    squared = lengths - 2 * (x @ y.T)
    near, other = np.nonzero(squared < _NEAR * lengths)
    for start in range(0, len(near), 4096):
        some = slice(start, start + 4096)
        squared[near[some], other[some]] = np.square(x[near[some]] - y[other[some]]).sum(axis=1)
    return squared
