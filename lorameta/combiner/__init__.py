"""Adapters and weights in, the low-rank updates of one new adapter out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lorameta.combiner.concat import concat
from lorameta.combiner.delta import delta
from lorameta.combiner.factor import factor
from lorameta.errors import BankError, UsageError, violations
from lorameta.lora import LoraPair

if TYPE_CHECKING:
    from lorameta.adapter import Adapter

__all__ = ["COMBINERS", "combine", "concat", "delta", "factor"]

#: name -> f(pairs of one module, weights (k,), rank) -> (pair, relative error against Σ w_i ΔW_i)
COMBINERS: dict[str, Callable[[Sequence[LoraPair], np.ndarray, int], tuple[LoraPair, float]]] = {
    "delta": delta,
    "concat": concat,
    "factor": factor,
}


def combine(
    adapters: Sequence[Adapter], weights: ArrayLike, *, method: str = "delta", rank: int | None = None
) -> tuple[dict[str, LoraPair], dict[str, float]]:
    """Mix adapters of one base, module by module.

    Parameters
    ----------
    adapters : sequence of Adapter
        k of them. A module that an adapter lacks counts as a zero update.
    weights : array of shape (k,)
        Finite, of any sign; adapters of weight 0 are left out.
    method : {"delta", "concat", "factor"}
        A key of :data:`COMBINERS`.
    rank : int, optional
        For ``delta``: the rank to cut to; the largest among the mixed adapters by default. ``concat`` has the sum of
        the ranks and ``factor`` the rank of the adapters, whatever is given.

    Returns
    -------
    modules : dict of str to LoraPair
        Sorted by module, scaling 1.
    errors : dict of str to float
        By module, ‖result − Σ w_i ΔW_i‖ / ‖Σ w_i ΔW_i‖ in Frobenius norm; 0.0 where the mix is exact.

    Raises
    ------
    UsageError
        An unknown method, a rank below 1, or weights that cannot be used.
    BankError
        Adapters of different bases or shapes; all violations, each with adapter and module.
    """
    if method not in COMBINERS:
        raise UsageError(f"unknown combiner {method!r}; there are {', '.join(COMBINERS)}")
    if rank is not None and (not isinstance(rank, (int, np.integer)) or isinstance(rank, bool) or rank < 1):
        raise UsageError(f"the rank is {rank!r}; it must be a whole number of at least 1")
    values = _check_weights(weights, len(adapters))
    used = [index for index, weight in enumerate(values) if weight != 0]
    names = {index: adapters[index].name or f"adapter {index}" for index in used}
    _check_fit(adapters, names)
    rank = max(adapters[index].rank for index in used) if rank is None else int(rank)

    modules: dict[str, LoraPair] = {}
    errors: dict[str, float] = {}
    problems: list[str] = []
    for module in sorted({module for index in used for module in adapters[index].modules}):
        having = [index for index in used if module in adapters[index].modules]
        pairs = [adapters[index].modules[module] for index in having]
        try:
            modules[module], errors[module] = COMBINERS[method](pairs, values[having], rank)
        except BankError as error:
            problems.append(f"{module}: {error}")
    if problems:
        raise BankError(violations(problems, f"the adapters cannot be mixed by {method!r}:"))
    return modules, errors


def _check_weights(weights: ArrayLike, count: int) -> np.ndarray:
    if count == 0:
        raise UsageError("there is no adapter to mix")
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (count,):
        raise UsageError(f"there are {count} adapters and weights of shape {values.shape}; give one weight an adapter")
    if not np.isfinite(values).all():
        raise UsageError(f"the weights must be finite; number {int(np.argmin(np.isfinite(values)))} is not")
    if not values.any():
        raise UsageError("all weights are 0, so there is nothing to mix")
    return values


def _check_fit(adapters: Sequence[Adapter], names: dict[int, str]) -> None:
    """All adapters must be of one base, and agree in the shape of each module."""
    problems: list[str] = []
    first: dict[str, int] = {}
    bases: dict[str, str] = {}
    for index, name in names.items():
        if base := adapters[index].base_model:
            bases.setdefault(base, name)
        if not adapters[index].modules:
            problems.append(f"{name} has no modules")
        for module, pair in adapters[index].modules.items():
            other = first.setdefault(module, index)
            shape = adapters[other].modules[module].shape
            if pair.shape != shape:
                problems.append(f"{name}, {module}: its update is {pair.shape}, that of {names[other]} is {shape}")
    if len(bases) > 1:
        problems.append("different bases: " + ", ".join(f"{name} is of {base}" for base, name in bases.items()))
    if problems:
        raise BankError(violations(problems, "these adapters do not fit together:", "Mix adapters of one base model."))
