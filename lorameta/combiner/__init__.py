"""Adapters and weights in, the low-rank updates of one new adapter out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.concat import concat
from lorameta.combiner.delta import delta
from lorameta.combiner.factor import factor
from lorameta.combiner.parallel import each
from lorameta.combiner.terms import MixedAdapters
from lorameta.errors import BankError, UsageError

if TYPE_CHECKING:
    from lorameta.adapter import Adapter

__all__ = ["COMBINERS", "combine", "concat", "delta", "factor"]

#: name -> f(pairs of one module, weights (k,), rank) -> (pair, relative error against Σ w_i ΔW_i)
COMBINERS: dict[str, Callable[..., tuple[LoraPair, float]]] = {
    "delta": delta,
    "concat": concat,
    "factor": factor,
}


def combine(
    adapters: Sequence[Adapter],
    weights: ArrayLike,
    *,
    method: str = "delta",
    rank: int | None = None,
    errors: bool = True,
) -> tuple[dict[str, LoraPair], dict[str, float]]:
    """Mix adapters of one base, module by module, as many at once as there are cores.

    Adapters that are still in their files (:meth:`lorameta.bank.AdapterBank.lazy`) are read a module at a time, so that
    memory is that of the modules in work and of the result, however large the bank.

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
    errors : bool
        False spares ``factor`` the computation of its errors, which then are NaN; the others know theirs anyway.

    Returns
    -------
    modules : dict of str to LoraPair
        Sorted by module, scaling 1.
    errors : dict of str to float
        By module, ‖result − Σ w_i ΔW_i‖ / ‖Σ w_i ΔW_i‖ in Frobenius norm; 0.0 where the mix is exact. Where the ranks
        of a module sum to more than 1,024, ``delta`` is computed by a randomised method, and these are estimates.

    Raises
    ------
    UsageError
        An unknown method, a rank below 1, or weights that cannot be used.
    BankError
        Adapters of different bases or shapes; all violations, each with adapter and module.

    Examples
    --------
    >>> from lorameta.adapter import Adapter, LoraPair
    >>> pair = LoraPair(np.eye(1, 3), np.ones((2, 1)))
    >>> adapters = [Adapter({"q_proj": pair}, "base"), Adapter({"q_proj": pair}, "base")]
    >>> modules, errors = combine(adapters, [0.25, 0.5])
    >>> round(float(modules["q_proj"].norm() / pair.norm()), 6), errors["q_proj"] < 1e-6
    (0.75, True)
    """
    if method not in COMBINERS:
        raise UsageError(f"unknown combiner {method!r}; there are {', '.join(COMBINERS)}")
    if rank is not None and (not isinstance(rank, (int, np.integer)) or isinstance(rank, bool) or rank < 1):
        raise UsageError(f"the rank is {rank!r}; it must be a whole number of at least 1")
    values = _check_weights(weights, len(adapters))
    used = [index for index, weight in enumerate(values) if weight != 0]
    names = [adapters[index].name or f"adapter {index}" for index in used]
    mixed = MixedAdapters([adapters[index].modules for index in used])
    _check_fit(mixed, names, [adapters[index].base_model for index in used])
    values = values[used]
    rank = max(r for found in mixed.layouts for r, _, _, _ in found.values()) if rank is None else int(rank)
    options = {} if errors or method != "factor" else {"error": False}

    def one(module: str) -> tuple[LoraPair, float] | BankError:
        having, terms = mixed.having(module), mixed.terms(module)
        try:
            pair, error = COMBINERS[method](terms, values[having], rank, **options)
            if not finite(pair):
                raise ValueError
        except BankError as error:
            return error
        except (ValueError, np.linalg.LinAlgError):
            bad = [names[index] for index, pair in zip(having, terms, strict=True) if not finite(pair)]
            if not bad:
                raise
            return BankError(f"NaN or infinite values in {', '.join(bad)}; run lorameta bank check")
        return pair, error

    found = each(one, mixed.modules)
    BankError.raise_if(
        [f"{module}: {result}" for module, result in found.items() if isinstance(result, BankError)],
        f"the adapters cannot be mixed by {method!r}:",
    )
    done = {module: result for module, result in found.items() if not isinstance(result, BankError)}
    return {module: pair for module, (pair, _) in done.items()}, {module: error for module, (_, error) in done.items()}


def finite(pair: LoraPair) -> bool:
    """Check whether all numbers of a pair are."""
    return bool(np.isfinite(pair.A).all() and np.isfinite(pair.B).all())


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


def _check_fit(mixed: MixedAdapters, names: Sequence[str], bases: Sequence[str]) -> None:
    """All adapters must be of one base, and agree in the shape of each module."""
    problems: list[str] = []
    first: dict[str, tuple[tuple[int, int], str]] = {}
    for kind, found in enumerate(mixed.layouts):
        having = [name for name, other in zip(names, mixed.kinds, strict=True) if other == kind]
        if not found:
            problems += [f"{name} has no modules" for name in having]
        for module, (_, d_out, d_in, _) in found.items():
            expected, other = first.setdefault(module, ((d_out, d_in), having[0]))
            if (d_out, d_in) != expected:
                says = f"{module}: its update is {(d_out, d_in)}, that of {other} is {expected}"
                problems += [f"{name}, {says}" for name in having]
    owners = {base: name for base, name in reversed(list(zip(bases, names, strict=True))) if base}
    if len(owners) > 1:
        of = ", ".join(f"{name} is of {base}" for base, name in reversed(owners.items()))
        problems.append(f"different bases: {of}")
    BankError.raise_if(problems, "these adapters do not fit together:", "Mix adapters of one base model.")
