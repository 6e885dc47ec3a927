"""The search operator: weights found by trying them, without gradients, as LoraHub does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from lorameta.errors import LorametaWarning, MissingExtraError, UsageError
from lorameta.operator.context import Context
from lorameta.operator.normalized import normalized

#: LoraHub's budget and its weight of the mean absolute weight in what is minimised.
EVALUATIONS = 40
PENALTY = 0.05
#: First step of the search, in the unit of the weights.
STEP = 0.1


def search(
    loss: Callable[[np.ndarray], float],
    start: np.ndarray,
    *,
    evaluations: int = EVALUATIONS,
    bounds: tuple[float, float] = (-1.5, 1.5),
    penalty: float = PENALTY,
    step: float = STEP,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise loss(w) + penalty · mean |w| over a box by CMA-ES, from a start that it never leaves for a worse place.

    The weights are free: they need not sum to 1. LoraHub searches the factors' average (Σ wᵢ Bᵢ)(Σ wᵢ Aᵢ); what is
    searched here is up to `loss`; :class:`lorameta.operator.mixture_loss.MixtureLoss` is that of the sum Σ wᵢ ΔWᵢ.

    Parameters
    ----------
    loss : callable
        Weights (k,) → a number; what is not finite counts as worse than everything.
    start : numpy.ndarray of shape (k,)
        Inside the bounds; it is the first to be evaluated. LoraHub starts at 0, the base model.
    evaluations : int
        Calls of `loss` at most, that of the start included.
    bounds : tuple of float
        Lower and upper bound of every weight.
    penalty : float
        At least 0.
    step : float
        Standard deviation of the first draws.
    seed : int
        The same seed gives the same weights; numpy's global random state is left alone.
    progress : callable, optional
        Called with 1 after each evaluation.

    Returns
    -------
    weights : numpy.ndarray of shape (k,), float64
        The best that was evaluated.
    trace : numpy.ndarray of shape (evaluations,), float64
        The penalised loss of each evaluation in order, the start's first; shorter if the search converged.

    Raises
    ------
    UsageError
        A start outside the bounds, bounds in the wrong order, no evaluation, a start whose loss is not finite.
    MissingExtraError
        The package ``cma`` is not installed.

    References
    ----------
    LoraHub, arXiv 2307.13269 (40 evaluations, |w| ≤ 1.5, penalty 0.05); Hansen, arXiv 1604.00772 (CMA-ES).

    Examples
    --------
    >>> weights, trace = search(lambda w: float(np.square(w - [0.8, 0.2]).sum()), np.full(2, 0.5), penalty=0.0)
    >>> len(trace), bool(trace.min() < trace[0] / 2)  # that of the start is the first
    (40, True)
    """
    start = np.asarray(start, dtype=np.float64)
    low, high = float(bounds[0]), float(bounds[1])
    problems = []
    if start.ndim != 1 or start.size == 0:
        problems.append(f"the start must have one axis and at least one weight; its shape is {start.shape}")
    elif not low < high:
        problems.append(f"the bounds must be in order; got {low} and {high}")
    elif not ((start >= low) & (start <= high)).all():
        problems.append(f"the start must lie within [{low}, {high}]; got {start.min():g} to {start.max():g}")
    if isinstance(evaluations, bool) or evaluations != int(evaluations) or evaluations < 1:
        problems.append(f"evaluations must be a whole number of at least 1; got {evaluations}")
    if not 0 <= penalty < np.inf:
        problems.append(f"the penalty must be a finite number from 0 up; got {penalty}")
    if not 0 < step < np.inf:
        problems.append(f"the step must be a finite number above 0; got {step}")
    if problems:
        raise UsageError("; ".join(problems))

    require()
    trace: list[float] = []
    best = start.copy()

    def objective(weights: np.ndarray) -> float:
        nonlocal best
        found = float(loss(weights.copy())) + penalty * float(np.abs(weights).mean())
        found = found if np.isfinite(found) else np.inf
        if trace and found < min(trace):
            best = weights.copy()
        trace.append(found)
        if progress is not None:
            progress(1)
        return found

    if not np.isfinite(objective(start)):
        raise UsageError("the loss of the start is not finite, so there is nothing to search from")
    if evaluations > 1:
        strategy = _strategy(start, step, low, high, seed)
        while len(trace) < evaluations and not strategy.stop():
            drawn = strategy.ask()
            values = [objective(x[: start.size]) for x in drawn[: int(evaluations) - len(trace)]]
            if len(values) == len(drawn):
                strategy.tell(drawn, [min(value, 1e300) for value in values])
    return best, np.array(trace)


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Search from the weights of ``normalized`` over the candidates, and warn if nothing beats the base."""
    near, rows, penalty = context.candidates, context.rows, float(context.options["penalty"])
    measured = context.mixture_loss(near)
    context.progress.start("trying mixtures", context.options["evaluations"])
    losses: list[float] = []

    def loss(weights: np.ndarray) -> float:
        losses.append(measured(weights))
        return losses[-1]

    base = measured(np.zeros(len(near)))
    weights, trace = search(
        loss, normalized(context.distances[near]), evaluations=context.options["evaluations"], penalty=penalty,
        seed=context.seed, progress=context.progress,
    )  # fmt: skip
    found = losses[int(np.argmin(trace))]
    if found >= base:
        warnings.warn(
            f"no mixture that search tried beats the base model on the {len(rows)} rows that it looked at (loss "
            f"{found:.3f}, the base has {base:.3f}); try more evaluations or candidates, or use the base as it is",
            LorametaWarning,
            stacklevel=5,
        )
    return context.spread(near, weights), {
        "candidates": len(near),
        "rows": len(rows),
        "evaluations": len(trace),
        "penalty": penalty,
        "loss_at_start": round(losses[0], 4),
        "loss": round(found, 4),
        "loss_of_base": round(base, 4),
    }


def require(*_: object) -> None:
    """Raise MissingExtraError if the package ``cma`` is not installed: before the work, not after it."""
    try:
        import cma  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("cma", "search", "The operator 'search'") from error


def _strategy(start: np.ndarray, step: float, low: float, high: float, seed: int) -> Any:
    import cma

    rng = np.random.default_rng(seed)
    # In one dimension CMA-ES is not defined; a second number that the loss does not see makes it so.
    mean = np.append(start, 0.5 * (low + high)) if start.size == 1 else start
    return cma.CMAEvolutionStrategy(
        mean,
        step,
        {
            "bounds": [low, high],
            "seed": np.nan,  # do not touch numpy's global state
            "randn": lambda *shape: rng.standard_normal(shape),
            "CMA_diagonal": True,  # a budget this small does not pay for correlations
            "verbose": -9,
            "verb_log": 0,
            "verb_disp": 0,
            "signals_filename": "",  # no file of the working directory steers it
        },
    )
