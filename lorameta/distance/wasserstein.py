"""The 1-Wasserstein distance of token ids."""

from __future__ import annotations

import numpy as np

from lorameta.distance.densities import as_counts, as_histogram, on_token_counts
from lorameta.distance.registry import Distance, once_per_bank
from lorameta.encoder.counts import TokenCounts


def wasserstein(target: np.ndarray, bank: TokenCounts | np.ndarray) -> np.ndarray:
    """Compute W₁ = Σ_t |P(t) - Qᵢ(t)| of the cumulative distributions P and Qᵢ over the token ids, taken as numbers.

    This is the mean number of ids by which tokens must be moved to turn one histogram into the other. It is a metric.
    Neighbouring ids have no meaning in common, except that byte-pair merges give frequent tokens small ids.

    Parameters
    ----------
    target : numpy.ndarray of shape (V,)
        Token counts of the dataset.
    bank : TokenCounts or numpy.ndarray of shape (N, V)
        Token counts of the bank's datasets.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        In [0, V - 1] token ids; not smoothed. Accurate to 12 digits, and to 1e-15 V near 0.

    Notes
    -----
    Equal to ``scipy.stats.wasserstein_distance`` of the two lists of token ids, which has to sort them for each pair.
    Between two tokens of dataset i Qᵢ is constant and P rises, so that their difference there is a difference of
    prefix sums of P, in two parts where P crosses Qᵢ on the way. The time is that of the tokens that occur in the bank.

    References
    ----------
    As in the code of arXiv 2507.01806. Vallender, Calculation of the Wasserstein distance between probability
    distributions on the line, Theory Probab. Appl. 18 (1974).

    Examples
    --------
    >>> import numpy as np
    >>> wasserstein(np.array([4, 0, 0, 0]), np.array([[1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]]))
    array([0. , 3. , 0.5])
    """
    counts = as_counts(bank, target)
    below = np.cumsum(as_histogram(target))  # how many tokens of the dataset have an id of at most t
    cdf = below / below[-1]
    # Σ_{s < t} P(s) for t = 0 … V, in units of one token of the dataset: whole numbers, whose differences are exact.
    area = np.concatenate([[0], np.cumsum(below)])
    before = np.concatenate([[0.0], cdf[:-1]])
    cumulated = _cumulated(counts)
    found = np.empty(len(counts))
    for rows, cells, starts in counts.blocks():
        tokens, q = counts.token_ids[cells], cumulated[cells]
        after = _next(tokens, starts, len(target))
        # P(t) and P(t′ - 1), the least and the largest that P is in the gap t … t′ - 1 in which Q is q.
        low, high = cdf[tokens], _next(before[tokens], starts, 1.0)
        start = area[tokens]
        end = _next(start, starts, area[-1])
        gaps = np.abs((end - start) / below[-1] - q * (after - tokens))
        cross = np.flatnonzero((low < q) & (q < high))
        middle = np.searchsorted(cdf, q[cross])
        first = q[cross] * (middle - tokens[cross]) - (area[middle] - start[cross]) / below[-1]
        gaps[cross] = first + (end[cross] - area[middle]) / below[-1] - q[cross] * (after[cross] - middle)
        found[rows] = start[starts] / below[-1] + np.add.reduceat(gaps, starts)
    return found


@once_per_bank
def _cumulated(counts: TokenCounts) -> np.ndarray:
    """Qᵢ at each token of each dataset, (nnz,)."""
    sums = np.concatenate([[0], np.cumsum(counts.counts)])
    lengths = np.diff(counts.indptr)
    return (sums[1:] - np.repeat(sums[counts.indptr[:-1]], lengths)) / np.repeat(counts.totals, lengths)


def _next(values: np.ndarray, starts: np.ndarray, last: float) -> np.ndarray:
    """In each dataset the value of the next token; `last` at its last one."""
    shifted = np.empty_like(values)
    shifted[:-1] = values[1:]
    shifted[starts[1:] - 1] = last
    shifted[-1:] = last
    return shifted


WASSERSTEIN = Distance(
    "wasserstein", "tokens", on_token_counts(wasserstein), metric=True, doc="1-Wasserstein distance of their token ids"
)
