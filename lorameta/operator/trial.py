"""The trial operator: each adapter alone on a few labelled rows, its loss in the place of a distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.operator.context import Context
from lorameta.operator.normalized import normalized


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by softmin of the standardised losses: one forward pass over the rows per adapter.

    Examples
    --------
    >>> from lorameta.data import Example
    >>> class Known:  # in place of a model: the loss of each adapter alone
    ...     def one(self, place):
    ...         return np.eye(3)[place]
    ...     def __call__(self, weights):
    ...         return float(weights @ [2.0, 1.0, 3.0])
    >>> rows = [Example("1 + 1 =", ("2",))]
    >>> options = {"candidates": 3, "rows": 1}
    >>> context = Context(np.array([0.1, 0.2, 0.3]), temperature=0.25, options=options, examples=rows)
    >>> context.mixture_loss = lambda near: Known()
    >>> weigh(context)[0].round(3)
    array([0.007, 0.993, 0.   ])
    """
    near, rows = context.candidates, context.rows
    loss = context.mixture_loss(near)
    context.progress.start("trying adapters", len(near))
    losses = np.empty(len(near))
    for place in range(len(near)):
        losses[place] = loss(loss.one(place))
        context.progress()
    weights = context.spread(near, normalized(losses, temperature=context.temperature))
    return weights, {"candidates": len(near), "rows": len(rows), "lowest_loss": round(float(losses.min()), 4)}
