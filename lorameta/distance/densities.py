"""Token counts as probability densities, and the sums over tokens that compare one with many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorameta.distance.registry import once_per_bank
from lorameta.encoder.counts import TokenCounts
from lorameta.encoder.summary import DatasetSummary, Summaries
from lorameta.errors import UsageError

#: Added to every density before it is normalised again; the value of the code of arXiv 2507.01806.
SMOOTHING = 1e-10
_NO_HISTOGRAM = "token counts must be non-negative, with at least one token in every dataset"


def densities(counts: np.ndarray, smoothing: float = SMOOTHING) -> np.ndarray:
    """p = (c / Σc + ε) / (1 + V ε) along the last axis.

    Parameters
    ----------
    counts : numpy.ndarray of shape (..., V)
        Non-negative, with a positive sum along the last axis.
    smoothing : float
        ε ≥ 0; above 0 every density is positive, so that no logarithm is infinite.

    Returns
    -------
    numpy.ndarray of shape (..., V), float64
        Sums to one. (The paper's code adds ε and leaves the sum at 1 + V ε.)

    Raises
    ------
    UsageError
        If counts are negative, or all are 0.
    """
    counts = as_histogram(counts)
    return _smoothed(counts / counts.sum(axis=-1, keepdims=True, dtype=np.float64), counts.shape[-1], smoothing)


def _smoothed(frequencies: np.ndarray, vocabulary_size: int, smoothing: float) -> np.ndarray:
    return (frequencies + smoothing) / (1.0 + vocabulary_size * smoothing)


def as_histogram(counts: np.ndarray) -> np.ndarray:
    """Counts (..., V) as an array; UsageError if some are negative, or all of the last axis are 0."""
    counts = np.asarray(counts)
    if not (counts.any(axis=-1).all() and (counts >= 0).all()):
        raise UsageError(_NO_HISTOGRAM)
    return counts


def as_counts(bank: TokenCounts | np.ndarray, target: np.ndarray) -> TokenCounts:
    """Return a bank's counts, dense (N, V) or sparse, as sparse ones; UsageError if they are no histograms like
    `target`."""
    counts = bank if isinstance(bank, TokenCounts) else TokenCounts.from_dense(bank)
    if not _are_histograms(counts):
        raise UsageError(_NO_HISTOGRAM)
    if np.shape(target) != (counts.vocabulary_size,):
        raise UsageError(
            f"the dataset's token counts have the shape {np.shape(target)}, the bank's {counts.shape}; both are counts "
            "of the tokens of one vocabulary"
        )
    return counts


@once_per_bank
def _are_histograms(counts: TokenCounts) -> bool:
    return bool((counts.counts > 0).all() and np.diff(counts.indptr).all())


def on_token_counts(
    function: Callable[[np.ndarray, TokenCounts], np.ndarray],
) -> Callable[[DatasetSummary, Summaries], np.ndarray]:
    """Lift a function of counts, (V,) and (N, V) to (N,), to summaries."""

    def compare(target: DatasetSummary, bank: Summaries) -> np.ndarray:
        return function(target.part("tokens")[0], bank.part("tokens")[0])

    return compare


def divergence(
    share: Callable[[np.ndarray, np.ndarray], np.ndarray],
    target: np.ndarray,
    bank: TokenCounts | np.ndarray,
    smoothing: float,
) -> np.ndarray:
    """Σ_t f(p_t, q_it) over the vocabulary for each dataset i, in the time that the tokens in the bank take.

    Parameters
    ----------
    share : callable
        f, elementwise; non-negative, and 0 between equals.
    target : numpy.ndarray of shape (V,)
    bank : TokenCounts or numpy.ndarray of shape (N, V)
    smoothing : float
        ε > 0 of :func:`densities`.

    Returns
    -------
    numpy.ndarray of shape (N,), float64

    Notes
    -----
    Where q_i has no tokens it is the same ε′ everywhere, so that the sum is Σ_{t in q_i} f(p_t, q_it) and the
    f(p_t, ε′) of all other tokens: their sum over all tokens, which does not depend on i, less that over those of
    q_i. This difference cancels, and is taken in integers, units of Σ f(p_t, ε′) / 2^61, which do not round.
    """
    if not smoothing > 0:
        raise UsageError(f"the smoothing of token densities is {smoothing}; it must be above 0")
    counts = as_counts(bank, target)
    p, size = densities(target, smoothing), counts.vocabulary_size
    alone = share(p, _smoothed(np.zeros(1), size, smoothing))
    exponent = 61 - int(np.frexp(alone.sum())[1])
    units = np.rint(np.ldexp(alone, exponent)).astype(np.int64)
    together, shared = np.empty(len(counts)), np.empty(len(counts), dtype=np.int64)
    for rows, cells, starts in counts.blocks():
        tokens = counts.token_ids[cells]
        q = _smoothed(counts.frequencies[cells], size, smoothing)
        together[rows] = np.add.reduceat(share(p[tokens], q), starts)
        shared[rows] = np.add.reduceat(units[tokens], starts)
    return together + np.ldexp((units.sum() - shared).astype(np.float64), -exponent)
