"""The sliced 2-Wasserstein distance of samples of sentence embeddings."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lorameta.distance.registry import Distance, once_per_bank
from lorameta.distance.samples import as_sample, row_counts
from lorameta.encoder.summary import DatasetSummary, Summaries

DIRECTIONS = 256  # at least: as many whole orthonormal bases as it takes
_SEED = 0
BLOCK = 2**19  # projected numbers of the bank that are compared at once


def sliced(sample: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Compute (mean over directions θ of W₂²(⟨θ, X⟩, ⟨θ, Y⟩))^½ along the fixed :func:`directions`.

    It is a pseudo-metric: symmetric and with the triangle inequality, since the directions are the same for all pairs,
    but 0 between samples that differ along none of them.

    Parameters
    ----------
    sample : numpy.ndarray of shape (s, d)
    samples : numpy.ndarray of shape (N, s′, d)
        Shorter samples end in rows of NaN.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        At least 0, in the unit of the embeddings; a shift of the whole sample by v is a distance of ‖v‖/√d.

    Notes
    -----
    ``ot.sliced_wasserstein_distance`` with these projections gives the same. It projects and sorts both samples for
    every pair, which for a bank of 502 takes tens of times as long, and importing it takes seconds; here the bank is
    projected and sorted once. On a line W₂² is the integral of the squared difference of the quantile functions, and
    these are steps.

    References
    ----------
    Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, J. Math. Imaging Vis. 51 (2015).
    Rowland et al., Orthogonal estimation of Wasserstein distances, AISTATS 2019 (orthogonal directions).

    Examples
    --------
    A shift by v is a distance of ‖v‖/√d:

    >>> import numpy as np
    >>> sample = np.random.default_rng(0).normal(size=(16, 4))
    >>> sliced(sample, np.stack([sample, sample + 1.0])).round(6)
    array([0., 1.])
    """
    return _compare(as_sample(sample, samples), _projected(samples), row_counts(samples))


@lru_cache(maxsize=4)
def directions(dimension: int) -> np.ndarray:
    """Draw random orthonormal bases of Rᵈ from a fixed seed, with at least `DIRECTIONS` vectors in all.

    Within a basis ⟨θ, v⟩² sums to ‖v‖², so that a difference of means counts in full, whatever was drawn.

    Parameters
    ----------
    dimension : int
        d.

    Returns
    -------
    numpy.ndarray of shape (d, L), float64
        L is the least multiple of d that is not below `DIRECTIONS`; 384 for d = 384.
    """
    generator = np.random.default_rng(_SEED)
    normal = generator.normal(size=(-(-DIRECTIONS // dimension), dimension, dimension))
    q, r = np.linalg.qr(normal)
    bases = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]  # without it QR is not uniform
    return np.concatenate(list(bases), axis=1)


def _projected(samples: np.ndarray) -> np.ndarray:
    """Each sample along each direction in increasing order, padding last; (N, L, s) float64."""
    along = directions(samples.shape[2])
    found = np.empty((len(samples), along.shape[1], samples.shape[1]))
    for row, sample in zip(found, samples, strict=True):
        row[:] = np.sort((sample.astype(np.float64) @ along).T, axis=1)
    return found


def _compare(sample: np.ndarray, projected: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    ours = _projected(sample[None])[0]
    step = max(1, BLOCK // max(1, projected[:1].size))
    found = np.empty(len(projected))
    for length in np.unique(lengths):
        # The quantile functions step at multiples of 1/s and 1/s′; counted in units of 1/(s s′).
        m, n = len(sample), int(length)
        steps = np.union1d(np.arange(1, m + 1) * n, np.arange(1, n + 1) * m)
        weights = np.diff(steps, prepend=0) / (m * n)
        mine = ours[:, (steps - 1) // n]
        members = np.flatnonzero(lengths == n)
        for start in range(0, len(members), step):
            some = members[start : start + step]
            theirs = projected[some, :, :n]
            if m != n:
                theirs = theirs[:, :, (steps - 1) // m]
            found[some] = (np.square(mine - theirs) @ weights).mean(axis=1)
    return np.sqrt(found)


@once_per_bank
def _prepared(bank: Summaries) -> tuple[np.ndarray, np.ndarray]:
    samples = bank.part("sentence")[3]
    return _projected(samples), row_counts(samples)


def _of_summaries(target: DatasetSummary, bank: Summaries) -> np.ndarray:
    sample = as_sample(target.part("sentence")[3], bank.part("sentence")[3])
    return _compare(sample, *_prepared(bank))


SLICED = Distance(
    "sliced",
    "sentence",
    _of_summaries,
    metric=True,
    doc="sliced 2-Wasserstein distance of samples of their sentence embeddings",
)
