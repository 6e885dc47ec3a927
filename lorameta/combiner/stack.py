"""Σ w_i s_i B_i A_i as one product of two wide factors: what the exact combiners start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.terms import Terms


def stack(pairs: Sequence[LoraPair], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write Σ w_i s_i B_i A_i as B A with B = [B_1 … B_k] and A = [w_1 s_1 A_1; …; w_k s_k A_k].

    Parameters
    ----------
    pairs : sequence of LoraPair
        Of one module; ranks may differ.
    weights : numpy.ndarray of shape (k,)

    Returns
    -------
    Bt : numpy.ndarray of shape (K, d_out), float64
        Bᵀ; K is the sum of the ranks.
    A : numpy.ndarray of shape (K, d_in), float64
    """
    terms = Terms.of(pairs)
    factors = terms.factors(weights)
    Bt, A = (np.empty((terms.summed_rank, d)) for d in terms.shape)
    for place, some_Bt, some_A in terms.blocks():
        Bt[place] = some_Bt
        np.multiply(some_A, factors[place, None], out=A[place])
    return Bt, A
