"""Operators: distances to the bank's datasets in, mixing weights on the simplex out.

To add one, write a pure function in a file of its own and name it in `OPERATORS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorameta.errors import UsageError
from lorameta.operator.attentional import attentional
from lorameta.operator.nearest import nearest
from lorameta.operator.normalized import normalized
from lorameta.operator.uniform import uniform

#: name → f(distances (N,), *, temperature) → weights (N,)
OPERATORS: dict[str, Callable[..., np.ndarray]] = {
    "attentional": attentional,
    "normalized": normalized,
    "nearest": nearest,
    "uniform": uniform,
}

__all__ = ["OPERATORS", "effective_number", "mixing_weights"]


def mixing_weights(
    distances: np.ndarray, operator: str = "normalized", *, temperature: float = 1.0, top_k: int | None = None
) -> np.ndarray:
    """Turn distances into mixing weights.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,), finite, N ≥ 1
    operator : str
        A key of `OPERATORS`.
    temperature : float
        In [0, inf]: 0 gives the nearest adapter (equals share), inf the uniform average.
    top_k : int, optional
        Keep the `top_k` largest weights, among equals those of smaller distance and then those that come first, and
        normalise them again. From 1 to N.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        Non-negative, with sum 1.

    Raises
    ------
    UsageError
        If an argument has a value that cannot work; all such arguments are named.
    """
    distances = np.asarray(distances, dtype=np.float64)
    found = []
    if distances.ndim != 1:
        found.append(f"distances must have one axis; got the shape {distances.shape}")
    elif len(distances) == 0:
        found.append("there is no distance to weigh: the bank has no adapters")
    elif len(bad := np.flatnonzero(~np.isfinite(distances))):
        listed = ", ".join(f"{distances[i]} at {i}" for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
        found.append(f"distances must be finite; got {listed}")
    if operator not in OPERATORS:
        found.append(f"unknown operator {operator!r}; there are {', '.join(OPERATORS)}")
    if not temperature >= 0:
        found.append(f"the temperature must be between 0 (nearest) and inf (uniform); got {temperature}")
    if top_k is not None and (isinstance(top_k, bool) or top_k != int(top_k) or not 1 <= top_k <= distances.size):
        found.append(f"top_k must be a whole number from 1 to the bank's {distances.size} adapters; got {top_k}")
    if found:
        raise UsageError("; ".join(found))
    weights = OPERATORS[operator](distances, temperature=temperature)
    if top_k is None:
        return weights
    order = np.lexsort((np.arange(len(weights)), distances, -weights))
    kept = np.zeros_like(weights)
    kept[order[: int(top_k)]] = weights[order[: int(top_k)]]
    return kept / kept.sum()


def effective_number(weights: np.ndarray) -> float:
    """How many adapters a mixture amounts to: (Σ w)² / Σ w², which is 1/Σ w² on the simplex.

    Between 1 (one adapter takes all) and N (uniform). The inverse of Simpson's index; Kish's effective sample size.

    Raises
    ------
    UsageError
        If the weights are empty, not finite, negative, or all 0.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.size == 0 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UsageError(f"an effective number needs weights that are non-negative and not all 0; got {weights}")
    weights = weights / weights.max()
    return float(weights.sum() ** 2 / np.square(weights).sum())
