"""Which adapters take part: the nearest, or those that a few passes over labelled rows leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lorameta.operator.halving import halve

if TYPE_CHECKING:
    from lorameta.operator.context import Context


def shortlist(context: Context, count: int | None, way: str) -> np.ndarray:
    """Choose adapters.

    Parameters
    ----------
    context : Context
    count : int or None
        How many; None is the whole bank.
    way : {"nearest", "halving", "gradient"}
        By distance; by :func:`lorameta.operator.halving.halve` over the whole bank; by the slopes of
        :mod:`lorameta.operator.gradient` over the whole bank.

    Returns
    -------
    numpy.ndarray of int
        Indices into the bank, nearest first.
    """
    near = context.nearest(None)
    if count is None or count >= len(near) or way == "nearest":
        return near[:count]
    if way == "halving":
        kept = near[halve(context.mixture_loss(near), context.rows, count, progress=context.progress)]
    else:
        from lorameta.operator.gradient import scores

        found = scores(context, near)
        kept = near[np.argsort(found, kind="stable")[:count]]
    return near[np.isin(near, kept)]
