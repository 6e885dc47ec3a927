"""`concat`: the sum itself, at the rank of all mixed adapters together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.stack import stack


def concat(pairs: Sequence[LoraPair], weights: np.ndarray, rank: int) -> tuple[LoraPair, float]:
    """Σ w_i s_i B_i A_i = [B_1 … B_k] [w_1 s_1 A_1; …; w_k s_k A_k]: nothing is lost, nothing is made smaller.

    Parameters
    ----------
    pairs : sequence of LoraPair
        Of one module, of equal shape; ranks and scalings may differ.
    weights : numpy.ndarray of shape (k,)
        Any sign.
    rank : int
        Not used: the result has the sum of the ranks.

    Returns
    -------
    LoraPair
        Scaling 1.
    float
        0.0.
    """
    Bt, A = stack(pairs, weights)
    return LoraPair(A=A, B=Bt.T), 0.0
