"""`factor`: the average of the factors, as the code of arXiv 2507.01806 does; kept for reproduction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.combiner.stack import stack
from lorameta.errors import BankError
from lorameta.lora import LoraPair


def factor(pairs: Sequence[LoraPair], weights: np.ndarray, rank: int) -> tuple[LoraPair, float]:
    """s (Σ w_i B_i)(Σ w_i A_i), which is not Σ w_i s B_i A_i: it carries the cross-terms w_i w_j B_i A_j.

    With adapters whose A started alike it stays near the sum, with independent ones it does not. Where the weights
    do not sum to 1 the result scales with their square.

    Parameters
    ----------
    pairs : sequence of LoraPair
        Of one module, of equal shape, rank and scaling.
    weights : numpy.ndarray of shape (k,)
        Any sign.
    rank : int
        Not used: the result has the rank of the adapters.

    Returns
    -------
    LoraPair
        Scaling 1.
    float
        ‖result − Σ w_i ΔW_i‖ / ‖Σ w_i ΔW_i‖ in Frobenius norm, which may exceed 1; infinite if the sum is zero and
        the result is not.

    Raises
    ------
    BankError
        Ranks or scalings differ.
    """
    kinds = sorted({(pair.rank, pair.scaling) for pair in pairs})
    if len(kinds) > 1:
        listed = ", ".join(f"rank {r} with scaling {s:g}" for r, s in kinds)
        raise BankError(f"factors of unequal rank or scaling cannot be averaged ({listed}); use the combiner 'delta'")
    B = pairs[0].scaling * sum(float(w) * pair.B.astype(np.float64) for w, pair in zip(weights, pairs, strict=True))
    A = sum(float(w) * pair.A.astype(np.float64) for w, pair in zip(weights, pairs, strict=True))
    B, A = np.asarray(B), np.asarray(A)
    B_sum, A_sum = stack(pairs, weights)
    target = _norm(B_sum, A_sum)
    gap = _norm(np.concatenate([B_sum, B], axis=1), np.concatenate([A_sum, -A], axis=0))
    if gap <= 1e-7 * max(target, _norm(B, A)):  # what is left of a difference of squares in float64
        gap = 0.0
    return LoraPair(A=A, B=B), (gap / target if target > 0 else float("inf") if gap > 0 else 0.0)


def _norm(B: np.ndarray, A: np.ndarray) -> float:
    """‖B A‖ in Frobenius norm from the Gram matrices."""
    return float(np.sqrt(max(0.0, float(np.vdot(B.T @ B, A @ A.T)))))
