"""Σ w_i s_i B_i A_i as one product of two wide factors: what the exact combiners start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.lora import LoraPair


def stack(pairs: Sequence[LoraPair], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write Σ w_i s_i B_i A_i as B A with B = [B_1 … B_k] and A = [w_1 s_1 A_1; …; w_k s_k A_k].

    Parameters
    ----------
    pairs : sequence of LoraPair
        Of one module; ranks may differ.
    weights : numpy.ndarray of shape (k,)

    Returns
    -------
    B : numpy.ndarray of shape (d_out, K), float64
        K is the sum of the ranks.
    A : numpy.ndarray of shape (K, d_in), float64
    """
    B = np.concatenate([pair.B for pair in pairs], axis=1).astype(np.float64)
    A = np.concatenate([pair.A for pair in pairs], axis=0).astype(np.float64)
    factors = np.repeat(
        [float(weight) * pair.scaling for pair, weight in zip(pairs, weights, strict=True)],
        [pair.rank for pair in pairs],
    )
    return B, factors[:, None] * A
