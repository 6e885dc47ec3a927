"""The trial operator: each adapter alone on a few labelled rows, its loss in the place of a distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.operator.context import Context
from lorameta.operator.normalized import normalized


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by softmin of the standardised losses: one forward pass over the rows per adapter."""
    near, rows = context.candidates, context.rows
    loss = context.mixture_loss(near)
    context.progress.start("trying adapters", len(near))
    losses = np.empty(len(near))
    for place in range(len(near)):
        losses[place] = loss(loss.one(place))
        context.progress()
    weights = context.spread(near, normalized(losses, temperature=context.temperature))
    return weights, {"candidates": len(near), "rows": len(rows), "lowest_loss": round(float(losses.min()), 4)}
