"""Fitting the neural operator to a bank; `lorameta.operator.neural_file` keeps it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.operator.neural import cross_validate, fit_neural
from lorameta.operator.neural_file import FittedOperator, load, path_of, save

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank

FOLDS = 5

__all__ = ["FOLDS", "FittedOperator", "bank_gram", "fit", "fittable", "load", "path_of", "save"]


def fit(
    bank: AdapterBank,
    distance: str,
    *,
    gram: np.ndarray | None = None,
    width: int = 32,
    iterations: int = 200,
    seed: int = 0,
) -> FittedOperator:
    """Fit the neural operator to a bank for one distance, and cross-validate it.

    Parameters
    ----------
    bank : AdapterBank
        Three adapters or more; a view is fitted to the adapters that it shows.
    distance : str
        A key of ``lorameta.distance.DISTANCES``.
    gram : numpy.ndarray of shape (N, N), optional
        What :func:`bank_gram` gives, for fits of several distances to one bank.
    width, iterations, seed
        See :func:`lorameta.operator.neural.fit_neural`.

    Returns
    -------
    FittedOperator
    """
    from lorameta import __version__
    from lorameta.distance import distance_matrix

    matrix = distance_matrix(bank.summaries, distance)
    gram = bank_gram(bank) if gram is None else gram
    settings = {"width": width, "iterations": iterations, "seed": seed}
    operator = fit_neural(matrix, gram, **settings)
    # Every fold must leave three adapters to fit to.
    checked = cross_validate(matrix, gram, folds=FOLDS, **settings) if len(bank) >= FOLDS else {}
    return FittedOperator(operator, distance, bank.content_hash, len(bank), checked, __version__)


def bank_gram(bank: AdapterBank, *, progress: Callable[[int], object] | None = None) -> np.ndarray:
    """Return the inner products of all adapters of a bank, in the order of its ids; adapters are read block by block.

    Parameters
    ----------
    bank : AdapterBank
    progress : callable, optional
        See :func:`lorameta.combiner.gram.gram`.

    Returns
    -------
    numpy.ndarray of shape (N, N), float64
    """
    from lorameta.combiner.gram import gram

    bank.fetch()
    return gram(_Members(bank), progress=progress)


def fittable(bank: AdapterBank) -> list[str]:
    """Return the distances whose part of the summaries the bank has."""
    from lorameta.distance import DISTANCES

    return [name for name, distance in DISTANCES.items() if bank.summaries.has(distance.needs)]


class _Members(Sequence["Adapter"]):
    """The adapters of a bank as a sequence that reads each when it is asked for."""

    def __init__(self, bank: AdapterBank) -> None:
        self.bank = bank

    def __len__(self) -> int:
        return len(self.bank)

    def __getitem__(self, index: Any) -> Any:
        return self.bank[self.bank.ids[index]]

    def __iter__(self) -> Iterator[Adapter]:
        return (self.bank[name] for name in self.bank)
