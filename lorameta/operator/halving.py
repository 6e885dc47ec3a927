"""Successive halving: many adapters on a few rows, the better half on as many again, until few are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lorameta.operator.progress import Progress

if TYPE_CHECKING:
    from lorameta.data import Example
    from lorameta.operator.mixture_loss import MixtureLoss

#: Rows of the first round.
FIRST = 4


def halve(
    loss: MixtureLoss, rows: Sequence[Example], keep: int, *, first: int = FIRST, progress: Progress | None = None
) -> np.ndarray:
    """Find the adapters that have the lowest loss alone, without running all of them over all rows.

    Each round runs the adapters that are left over rows that no round has seen, as many as all rounds before together,
    and drops the worse half by the summed loss so far. It ends when `keep` are left, or the rows are used up.

    Parameters
    ----------
    loss : MixtureLoss
        Of all adapters; its own rows are not used.
    rows : sequence of Example
        In the order in which they are taken.
    keep : int
    first : int
        Rows of the first round.
    progress : Progress, optional

    Returns
    -------
    numpy.ndarray of shape (min(keep, k),), int
        Best first, ties by place.

    References
    ----------
    Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016;
    LoRAuter, arXiv 2601.21795, for adapters.
    """
    progress = progress or Progress()
    left = np.arange(loss.count)
    losses = np.zeros(loss.count)
    seen, step = 0, min(first, len(rows))
    while len(left) > keep and seen < len(rows):
        batch = loss.on(rows[seen : seen + step])
        progress.start("halving", len(left))
        for index in left:
            losses[index] += batch.measure(loss.one(index)).losses.sum()
            progress()
        seen += step
        step = min(seen, len(rows) - seen)
        count = keep if seen >= len(rows) else max(keep, (len(left) + 1) // 2)
        left = left[np.argsort(losses[left], kind="stable")[:count]]
    return left[:keep]
