"""The maximum mean discrepancy of token ids."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lorameta.distance.densities import as_counts, densities, on_token_counts
from lorameta.distance.kernel import kernel
from lorameta.distance.registry import Distance, once_per_bank
from lorameta.encoder.counts import TokenCounts

BLOCK = 2**19  # dense cells that are transformed at once


def mmd(target: np.ndarray, bank: TokenCounts | np.ndarray) -> np.ndarray:
    """Compute MMD² = pᵀKp - 2 pᵀKqᵢ + qᵢᵀKqᵢ with K_st = k(s, t), the kernel of two token ids, taken as numbers.

    As in the paper, no square root is taken; the square root would be a metric. The kernel is only a few ids wide, so
    that MMD² is close to the squared difference of the histograms, which the most frequent tokens dominate.

    Parameters
    ----------
    target : numpy.ndarray of shape (V,)
        Token counts of the dataset.
    bank : TokenCounts or numpy.ndarray of shape (N, V)
        Token counts of the bank's datasets.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        In [0, 8]; not smoothed. Accurate to 1e-15, and 0 where rounding would make it negative.

    Notes
    -----
    The expectation over all pairs of tokens, a token with itself included (the biased V-statistic): what the paper's
    code estimates from 1000 tokens a side. K is Toeplitz, so that K p is one fast Fourier transform and qᵢᵀKqᵢ a sum
    over the squared spectrum of qᵢ, which is found once for a bank. numpy's transform is used, as scipy's, which is
    no quicker here, takes longer to import than the whole comparison takes.

    References
    ----------
    Gretton et al., A kernel two-sample test, JMLR 13 (2012). Kernel: the code of arXiv 2507.01806.

    Examples
    --------
    >>> import numpy as np
    >>> mmd(np.array([4, 0, 0, 0]), np.array([[1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]])).round(3)
    array([0.   , 7.456, 1.343])
    """
    counts = as_counts(bank, target)
    p, size = densities(target, 0.0), counts.vocabulary_size
    spectrum = _spectrum(size)
    length = 2 * (len(spectrum) - 1)
    transformed = np.fft.rfft(p, length)
    smooth = np.fft.irfft(transformed * spectrum, length)[:size]
    cross = np.empty(len(counts))
    for rows, cells, starts in counts.blocks():
        cross[rows] = np.add.reduceat(counts.frequencies[cells] * smooth[counts.token_ids[cells]], starts)
    return np.maximum(_energy(p, spectrum) - 2 * cross + _energies(counts), 0.0)


@lru_cache(maxsize=4)
def _spectrum(size: int) -> np.ndarray:
    """Return the transform of the kernel as a function of s - t, on a circle so long that nothing wraps around."""
    length = 2 << (size - 1).bit_length()
    lags = np.arange(length, dtype=np.float64)
    return np.fft.rfft(kernel(np.square(np.minimum(lags, length - lags)))).real


def _energy(frequencies: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """qᵀKq of each (..., V), by Parseval's identity."""
    length = 2 * (len(spectrum) - 1)
    found = np.fft.rfft(frequencies, length)
    twice = np.full(len(spectrum), 2.0)  # a real function's spectrum has every frequency twice, but two
    twice[[0, -1]] = 1.0
    return (np.square(found.real) + np.square(found.imag)) @ (spectrum * twice) / length


@once_per_bank
def _energies(counts: TokenCounts) -> np.ndarray:
    spectrum = _spectrum(counts.vocabulary_size)
    step = max(1, BLOCK // counts.vocabulary_size)
    blocks = (np.arange(start, min(start + step, len(counts))) for start in range(0, len(counts), step))
    return np.concatenate([np.empty(0), *(_energy(densities(counts[b].toarray(), 0.0), spectrum) for b in blocks)])


MMD = Distance(
    "mmd",
    "tokens",
    on_token_counts(mmd),
    metric=False,
    doc="squared maximum mean discrepancy of their token ids",
    root_metric=True,
)
