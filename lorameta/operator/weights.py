"""Mixing weights from distances alone, and how many adapters a mixture amounts to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorameta.errors import UsageError
from lorameta.operator import OPERATORS

#: What to call where an operator needs more than distances.
_ELSEWHERE = {
    "fitted": "what was fitted to the bank; call lorameta.generate_adapter, or pass the `weights` of a NeuralOperator",
    "sentence": "the means of sentence embeddings; call lorameta.operator.sparse.sparse",
    "rows": "labelled rows and the base model; call lorameta.generate_adapter",
}


def mixing_weights(
    distances: np.ndarray,
    operator: str | Callable[..., np.ndarray] = "normalized",
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> np.ndarray:
    """Turn distances into mixing weights.

    Parameters
    ----------
    distances : numpy.ndarray of shape (N,), finite, N ≥ 1
    operator : str or callable
        A key of `OPERATORS` whose operator needs distances alone, or f(distances, *, temperature) → weights, such as
        ``NeuralOperator.weights``.
    temperature : float
        In [0, inf]: 0 gives the nearest adapter (equals share), inf the uniform average. ``nearest`` and ``uniform``
        have none and ignore it.
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

    Examples
    --------
    >>> mixing_weights([0.2, 0.9, 0.9], "attentional", temperature=0.1).round(3).tolist()
    [0.998, 0.001, 0.001]
    """
    from lorameta.operator.context import Context

    distances = np.asarray(distances, dtype=np.float64)
    found = []
    if distances.ndim != 1:
        found.append(f"distances must have one axis; got the shape {distances.shape}")
    elif len(distances) == 0:
        found.append("there is no distance to weigh: the bank has no adapters")
    elif len(bad := np.flatnonzero(~np.isfinite(distances))):
        listed = ", ".join(f"{distances[i]} at {i}" for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
        found.append(f"distances must be finite; got {listed}")
    if not callable(operator):
        if operator not in OPERATORS:
            found.append(f"unknown operator {operator!r}; there are {', '.join(OPERATORS)}")
        elif needs := OPERATORS[operator].needs:
            found.append(f"the operator {operator!r} needs more than distances: {_ELSEWHERE[needs[0]]}")
    if not temperature >= 0:
        found.append(f"the temperature must be between 0 (nearest) and inf (uniform); got {temperature}")
    if top_k is not None and (isinstance(top_k, bool) or top_k != int(top_k) or not 1 <= top_k <= distances.size):
        found.append(f"top_k must be a whole number from 1 to the bank's {distances.size} adapters; got {top_k}")
    if found:
        raise UsageError("; ".join(found))
    if not callable(operator):
        return OPERATORS[operator](Context(distances, temperature=temperature, top_k=top_k))[0]
    weights = operator(distances, temperature=temperature)
    return weights if top_k is None else keep_largest(weights, distances, int(top_k))


def keep_largest(weights: np.ndarray, distances: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` largest weights with the sum of all, the others 0; of equals the nearer, then the first."""
    if isinstance(count, bool) or count != int(count) or not 1 <= count <= len(weights):
        raise UsageError(f"top_k must be a whole number from 1 to the bank's {len(weights)} adapters; got {count}")
    order = np.lexsort((np.arange(len(weights)), distances, -weights))
    kept = np.zeros_like(weights)
    kept[order[: int(count)]] = weights[order[: int(count)]]
    return kept * (weights.sum() / kept.sum()) if kept.any() else kept


def effective_number(weights: np.ndarray) -> float:
    """Return how many adapters a mixture amounts to: (Σ |w|)² / Σ w², which is 1/Σ w² on the simplex.

    Between 1 (one adapter takes all) and N (equal parts). The inverse of Simpson's index; Kish's effective sample
    size. Of signed weights it counts the absolute ones: what is taken away takes part as much as what is added.

    Raises
    ------
    UsageError
        If the weights are empty, not finite, or all 0.

    Examples
    --------
    >>> effective_number([0.5, 0.5, 0.0])
    2.0
    """
    weights = np.abs(np.asarray(weights, dtype=np.float64))
    if weights.size == 0 or not np.isfinite(weights).all() or not weights.any():
        raise UsageError(f"an effective number needs weights that are finite and not all 0; got {weights}")
    weights = weights / weights.max()
    return float(weights.sum() ** 2 / np.square(weights).sum())
