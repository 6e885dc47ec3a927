"""`factor`: the average of the factors, as the code of arXiv 2507.01806 does; kept for reproduction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.average import average, on_one_a
from lorameta.combiner.randomised import relative_gap
from lorameta.combiner.stack import stack
from lorameta.combiner.terms import Terms
from lorameta.errors import BankError

#: Multiplications up to which the error comes from the Gram matrices of all factors: a tenth of a second a module.
EXACT_PRODUCTS = 1 << 30
#: A gap of this relative size is what sums in float32 and a difference of squares leave of none.
ROUNDING = 1e-6


def factor(pairs: Sequence[LoraPair], weights: np.ndarray, rank: int, *, error: bool = True) -> tuple[LoraPair, float]:
    """Average the factors: s (Σ w_i B_i)(Σ w_i A_i), which adds the cross-terms w_i w_j B_i A_j to the sum.

    Where the A's of the adapters are alike, the result is close to Σ w_i s B_i A_i; where they are independent, it is
    not. Where the weights do not sum to 1, the result scales with the square of their sum.

    Parameters
    ----------
    pairs : sequence of LoraPair
        Of one module, of equal shape, rank and scaling.
    weights : numpy.ndarray of shape (k,)
        Any sign.
    rank : int
        Not used: the result has the rank of the adapters.
    error : bool
        Whether to compute the error, which takes longer than the average itself; NaN if not.

    Returns
    -------
    LoraPair
        Scaling 1.
    float
        ‖result − Σ w_i ΔW_i‖ / ‖Σ w_i ΔW_i‖ in Frobenius norm, which may exceed 1; infinite if the sum is zero and
        the result is not. Estimated where K² (d_out + d_in), with K the sum of the ranks, exceeds 2^30
        (:func:`lorameta.combiner.randomised.relative_gap`).

    Raises
    ------
    BankError
        Ranks or scalings differ.

    References
    ----------
    The code of arXiv 2507.01806, and LoraHub, arXiv 2307.13269.

    Examples
    --------
    With one A common to all pairs, the average is the exact sum; with different ones it is not:

    >>> import numpy as np
    >>> from lorameta.adapter import LoraPair
    >>> A, other = np.eye(1, 3), np.eye(1, 3, 1)
    >>> B = [np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])]
    >>> factor([LoraPair(A, b) for b in B], np.array([0.5, 0.5]), rank=1)[1]
    0.0
    >>> round(factor([LoraPair(A, B[0]), LoraPair(other, B[1])], np.array([0.5, 0.5]), rank=1)[1], 6)
    0.707107
    """
    terms = Terms.of(pairs)
    kinds = sorted(set(zip(terms.ranks, terms.scalings, strict=True)))
    if len(kinds) > 1:
        listed = ", ".join(f"rank {r} with scaling {s:g}" for r, s in kinds)
        raise BankError(f"factors of unequal rank or scaling cannot be averaged ({listed}); use the combiner 'delta'")
    if (exact := on_one_a(terms, weights)) is not None:  # Σ wᵢ is all that the average adds to the sum
        total = float(np.sum(weights))
        return LoraPair(exact.A, np.float32(total) * exact.B), abs(total - 1) if abs(total - 1) > ROUNDING else 0.0
    B, A = average(terms, weights)
    made = LoraPair(A=A, B=terms.scalings[0] * B)
    if not error:
        return made, float("nan")
    if terms.summed_rank**2 * sum(terms.shape) > EXACT_PRODUCTS:
        return made, relative_gap(terms, weights, made)
    B, A = made.B.astype(np.float64), made.A.astype(np.float64)
    Bt_sum, A_sum = stack(terms, weights)
    target = _norm(Bt_sum, A_sum)
    gap = _norm(np.concatenate([Bt_sum, B.T]), np.concatenate([A_sum, -A]))
    if gap <= ROUNDING * max(target, _norm(B.T, A)):
        gap = 0.0
    return made, (gap / target if target > 0 else float("inf") if gap > 0 else 0.0)


def _norm(Bt: np.ndarray, A: np.ndarray) -> float:
    """‖B A‖ in Frobenius norm from the Gram matrices."""
    return float(np.sqrt(max(0.0, float(np.vdot(Bt @ Bt.T, A @ A.T)))))
