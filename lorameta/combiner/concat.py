"""`concat`: the sum itself, at the rank of all mixed adapters together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.stack import stack


def concat(pairs: Sequence[LoraPair], weights: np.ndarray, rank: int) -> tuple[LoraPair, float]:
    """Lay the factors side by side: Σ w_i s_i B_i A_i = (B_1 … B_k)(w_1 s_1 A_1; …; w_k s_k A_k), exactly.

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

    Examples
    --------
    >>> import numpy as np
    >>> from lorameta.adapter import LoraPair
    >>> pairs = [LoraPair(np.eye(1, 3, k), np.ones((2, 1))) for k in range(2)]
    >>> made, error = concat(pairs, np.array([0.25, 0.75]), rank=1)
    >>> made.rank, error
    (2, 0.0)
    >>> made.delta()[0]
    array([0.25, 0.75, 0.  ], dtype=float32)
    """
    Bt, A = stack(pairs, weights)
    return LoraPair(A=A, B=Bt.T), 0.0
