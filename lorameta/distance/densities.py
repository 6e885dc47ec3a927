"""Token counts as smoothed probability densities, and how one is compared with many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorameta.encoder.summary import DatasetSummary, Summaries
from lorameta.errors import UsageError

#: Added to every density before it is normalised again; the value of the code of arXiv 2507.01806.
SMOOTHING = 1e-10
_BLOCK = 2**20  # cells of the bank compared at once: 8 MB an array, whatever the size of bank and vocabulary


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
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum(axis=-1, keepdims=True)
    if not (total > 0).all() or (counts < 0).any():
        raise UsageError("token counts must be non-negative, with at least one token in every dataset")
    return (counts / total + smoothing) / (1.0 + counts.shape[-1] * smoothing)


def on_token_counts(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[DatasetSummary, Summaries], np.ndarray]:
    """Lift a function of counts, (V,) and (N, V) to (N,), to summaries; a large bank is worked off in blocks."""

    def compare(target: DatasetSummary, bank: Summaries) -> np.ndarray:
        (ours,), (theirs,) = target.part("tokens"), bank.part("tokens")
        size = max(1, _BLOCK // len(ours))
        blocks = (theirs[start : start + size] for start in range(0, len(theirs), size))
        return np.concatenate([np.empty(0), *(function(ours, block) for block in blocks)])

    return compare
