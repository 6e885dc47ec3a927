"""Operators: what is known of a dataset in, mixing weights out; most need its distances to the bank's datasets alone.

To add one, write a pure function in a file of its own and name it in `OPERATORS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lorameta.errors import UsageError
from lorameta.operator.attentional import attentional
from lorameta.operator.nearest import nearest
from lorameta.operator.normalized import normalized
from lorameta.operator.registry import Operator
from lorameta.operator.uniform import uniform

_ALL = (
    Operator("attentional", "distances", attentional, True, True, False, (), "softmin of the distances"),
    Operator("normalized", "distances", normalized, True, True, False, (), "softmin of the standardised distances"),
    Operator("nearest", "distances", nearest, False, True, False, (), "the nearest adapter alone"),
    Operator("uniform", "distances", uniform, False, True, False, (), "the average of the whole bank"),
    Operator("neural", "fitted", None, True, True, False, ("fitted",), "softmin of a score learned from the bank"),
    Operator(
        "sparse", "prototypes", None, False, False, True, ("penalty", "candidates"),
        "the few signed weights that rebuild the dataset's mean embedding",
    ),
    Operator(
        "trial", "rows", None, True, False, False, ("candidates", "rows"),
        "softmin of the standardised losses that adapters have on a few labelled rows",
    ),
    Operator(
        "search", "rows", None, False, False, True, ("penalty", "candidates", "evaluations", "rows"),
        "the weights with the lowest loss on a few labelled rows, found by trying",
    ),
)  # fmt: skip
#: By name.
OPERATORS: dict[str, Operator] = {operator.name: operator for operator in _ALL}

#: What is to be called, or had, where an operator needs more than distances.
_NEEDS = {
    "fitted": "a network that was fitted to the bank; pass the `weights` of a NeuralOperator in place of its name",
    "prototypes": "the means of sentence embeddings; call lorameta.operator.sparse.sparse",
    "rows": "labelled rows and the base model; call lorameta.generate_adapter",
}

__all__ = ["OPERATORS", "Operator", "effective_number", "mixing_weights"]


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
    """
    distances = np.asarray(distances, dtype=np.float64)
    function = operator if callable(operator) else None
    found = []
    if distances.ndim != 1:
        found.append(f"distances must have one axis; got the shape {distances.shape}")
    elif len(distances) == 0:
        found.append("there is no distance to weigh: the bank has no adapters")
    elif len(bad := np.flatnonzero(~np.isfinite(distances))):
        listed = ", ".join(f"{distances[i]} at {i}" for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
        found.append(f"distances must be finite; got {listed}")
    if function is None:
        if operator not in OPERATORS:
            found.append(f"unknown operator {operator!r}; there are {', '.join(OPERATORS)}")
        else:
            known = OPERATORS[str(operator)]
            function = known.function
            if function is None:
                found.append(f"the operator {operator!r} needs more than distances: {_NEEDS[known.needs]}")
    if not temperature >= 0:
        found.append(f"the temperature must be between 0 (nearest) and inf (uniform); got {temperature}")
    if top_k is not None and (isinstance(top_k, bool) or top_k != int(top_k) or not 1 <= top_k <= distances.size):
        found.append(f"top_k must be a whole number from 1 to the bank's {distances.size} adapters; got {top_k}")
    if found or function is None:
        raise UsageError("; ".join(found))
    weights = function(distances, temperature=temperature)
    if top_k is None:
        return weights
    order = np.lexsort((np.arange(len(weights)), distances, -weights))
    kept = np.zeros_like(weights)
    kept[order[: int(top_k)]] = weights[order[: int(top_k)]]
    return kept / kept.sum()


def effective_number(weights: np.ndarray) -> float:
    """How many adapters a mixture amounts to: (Σ |w|)² / Σ w², which is 1/Σ w² on the simplex.

    Between 1 (one adapter takes all) and N (equal parts). The inverse of Simpson's index; Kish's effective sample
    size. Of signed weights it counts the absolute ones: what is taken away takes part as much as what is added.

    Raises
    ------
    UsageError
        If the weights are empty, not finite, or all 0.
    """
    weights = np.abs(np.asarray(weights, dtype=np.float64))
    if weights.size == 0 or not np.isfinite(weights).all() or not weights.any():
        raise UsageError(f"an effective number needs weights that are finite and not all 0; got {weights}")
    weights = weights / weights.max()
    return float(weights.sum() ** 2 / np.square(weights).sum())
