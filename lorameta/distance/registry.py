"""What a distance is: a function of one dataset and a whole bank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from lorameta.encoder.summary import DatasetSummary, Summaries

Bank = TypeVar("Bank")
Found = TypeVar("Found")


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
        Whether it is symmetric, 0 between equal summaries, and obeys the triangle inequality. (It may be 0 between
        others too: a summary is not the whole dataset, and no distance reads all of a summary.)
    doc : str
        What it is "of their" tokens or embeddings, for reports: "compared by the ...".
    root_metric : bool
        Whether that holds of its square root, as it does of the divergences that are squared norms; False where it
        holds of the distance itself.
    """

    name: str
    needs: str
    function: Callable[[DatasetSummary, Summaries], np.ndarray]
    metric: bool
    doc: str
    root_metric: bool = False


def once_per_bank(function: Callable[[Bank], Found]) -> Callable[[Bank], Found]:
    """Remember what `function` found in a bank for as long as the bank lives: nothing of it depends on the dataset."""
    known: WeakKeyDictionary[Bank, Found] = WeakKeyDictionary()

    @wraps(function)
    def remembered(bank: Bank) -> Found:
        if bank not in known:
            known[bank] = function(bank)
        return known[bank]

    return remembered
