"""What a distance is: a function of one dataset and a whole bank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lorameta.encoder.summary import DatasetSummary, Summaries


@dataclass(frozen=True)
class Distance:
    """A way to compare one dataset with every dataset behind a bank.

    Attributes
    ----------
    name : str
    needs : str
        The part of the summaries it reads: ``"tokens"`` or ``"sentence"``.
    function : callable
        (DatasetSummary, Summaries) → float64 of shape (N,). Call it through :func:`lorameta.distance.distances`,
        which checks both sides.
    metric : bool
        Whether it is symmetric, 0 only between equals (equal summaries), and obeys the triangle inequality.
    doc : str
        One line for tables and help.
    """

    name: str
    needs: str
    function: Callable[[DatasetSummary, Summaries], np.ndarray]
    metric: bool
    doc: str
