"""The stack operator: the weights whose mixture answers labelled rows best, solved for on linearised logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.operator.context import Context
from lorameta.operator.convex import Linearised, cross_validated

if TYPE_CHECKING:
    from lorameta.operator.mixture_loss import MixtureLoss
    from lorameta.operator.progress import Progress

#: Ridges that cross-validation chooses among, and scales of the weights that are tried by running the model.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
SCALES = (0.5, 0.75, 1.0, 1.25)


def stack(
    loss: MixtureLoss, *, ridge: float | None = None, rounds: int = 1, progress: Progress | None = None
) -> tuple[np.ndarray, dict[str, Any], np.ndarray]:
    """Find weights w ≥ 0 of low loss.

    With f(w) the logits at the answers' positions, Dᵢ = f(eᵢ) - f(0) comes from one forward pass per adapter, and
    min over w ≥ 0 of mean CE(f(0) + Σ wᵢ Dᵢ, y) + λ/2 ‖w‖² is convex: L-BFGS-B solves it in milliseconds. λ is chosen
    by cross-validation over the rows. Since the logits are not quite linear, the weights are then scaled by the factor
    that has the lowest loss when the model is run; where an adapter alone has a lower one, it is taken. A further round
    takes Dᵢ = (f(w + eᵢ/4) - f(w))·4 around the weights of the last one, and is kept if the model's loss is lower.

    Parameters
    ----------
    loss : MixtureLoss
        Of k adapters on labelled rows.
    ridge : float, optional
        λ; by cross-validation unless given.
    rounds : int
        Linearisations.
    progress : Progress, optional
        Called after each pass.

    Returns
    -------
    weights : numpy.ndarray of shape (k,), float64
        From 0 up; their sum is free.
    details : dict
        The ridge, the scale, and the losses on the rows.
    alone : numpy.ndarray of shape (k,), float64
        The loss of each adapter alone.

    Examples
    --------
    Two adapters in place of a model's: of two tokens the first is right, one adapter raises its logit, one lowers it.

    >>> class Linear:
    ...     count, owner = 2, np.repeat(np.arange(4), 2)  # four rows of two tokens
    ...     def one(self, index):
    ...         return np.eye(2)[index]
    ...     def logits(self, weights):
    ...         return np.outer(np.full(8, weights @ [2.0, -1.0]), [1.0, 0.0])
    ...     def __call__(self, weights):
    ...         return float(np.log1p(np.exp(-weights @ [2.0, -1.0])))
    >>> weights, details, alone = stack(Linear(), ridge=0.1)
    >>> weights.round(2), details["loss_of_base"], alone.round(3)
    (array([1.65, 0.  ]), 0.6931, array([0.127, 1.313]))
    """
    from lorameta.operator.progress import Progress

    tell = progress or Progress()
    tell.start("stacking", rounds * (1 + loss.count + len(SCALES)))
    weights, step, best = np.zeros(loss.count), 1.0, np.inf
    details: dict[str, Any] = {}
    alone = np.empty(loss.count)
    for turn in range(rounds):
        start = loss.logits(weights)
        tell()
        slopes = np.empty((loss.count, *start.shape), dtype=np.float32)
        for index in range(loss.count):
            logits = loss.logits(weights + step * loss.one(index))
            slopes[index] = (logits - start) / step
            if turn == 0:
                alone[index] = _mean_loss(logits)
            tell()
        problem = Linearised(start, slopes)
        chosen = ridge if ridge is not None else _ridge(problem, loss.owner)
        moved = weights + problem.solve(chosen, least=-weights)
        tried = {scale: loss(scale * moved) for scale in SCALES}
        tell(len(SCALES))
        scale = min(tried, key=lambda one: tried[one])
        if turn == 0:
            details["loss_of_base"] = round(_mean_loss(start), 4)
        if tried[scale] >= best:
            break
        best, step, weights = tried[scale], 0.25, scale * moved
        details |= {"ridge": float(chosen), "scale": scale, "loss": round(best, 4), "rounds": turn + 1}
        if turn == 0 and alone.min() < best:
            best, weights = float(alone.min()), loss.one(int(alone.argmin()))
            details |= {"scale": 1.0, "loss": round(best, 4)}
    return weights, details, alone


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Stack the adapters that the options choose; where none of them helps at all, the nearest gets a weight of 1."""
    near = context.candidates
    loss = context.mixture_loss(near)
    weights, details, _ = stack(
        loss, ridge=context.options["ridge"], rounds=context.options["rounds"], progress=context.progress
    )
    if not weights.any():
        weights = loss.one(0)
    return context.spread(near, weights), {"candidates": len(near), "rows": len(context.rows)} | details


def _ridge(problem: Linearised, owner: np.ndarray) -> float:
    if owner[-1] == 0:  # one row cannot be divided
        return 0.1
    return min(RIDGES, key=lambda ridge: (cross_validated(problem, owner, ridge), -ridge))


def _mean_loss(logits: np.ndarray) -> float:
    return float(Linearised(logits, np.empty((0, *logits.shape))).losses(np.zeros(0)).mean())
