"""`Context`: everything that an operator may ask for, made when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import DataError, UsageError
from lorameta.operator.progress import Progress

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.base_model.load import Base
    from lorameta.data import Example
    from lorameta.encoder import DatasetSummary
    from lorameta.operator.mixture_loss import MixtureLoss


@dataclass
class Context:
    """What is known of a dataset, and the ways to learn more of it by running the base model.

    Attributes
    ----------
    distances : numpy.ndarray of shape (N,), float64
        From the dataset to those behind the bank's adapters.
    temperature : float
        Where the operator has none, nobody reads it.
    top_k : int or None
        Applied to what the operator returns; it need not do anything for it.
    options : mapping
        The operator's own, all of them, checked.
    seed : int
    name : str
        Of the operator, for messages.
    bank : AdapterBank or None
        In the order of `distances`; None in a call on distances alone.
    distance : str
        Which one.
    summary : DatasetSummary or None
        With the part that the operator's ``needs`` names.
    examples : sequence of Example
        All rows, labelled or not.
    progress : Progress
        To be called after each pass over rows.
    loaded : Base or None
        The bank's base, if it is in memory already; see :attr:`base`.
    chosen : numpy.ndarray of int or None
        The adapters that take part, where they were chosen before; see :attr:`candidates`.
    """

    distances: np.ndarray
    temperature: float = 1.0
    top_k: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    name: str = ""
    bank: AdapterBank | None = None
    distance: str = ""
    summary: DatasetSummary | None = None
    examples: Sequence[Example] = ()
    progress: Progress = field(default_factory=Progress)
    loaded: Base | None = None
    chosen: np.ndarray | None = None

    @cached_property
    def base(self) -> Base:
        """The bank's base model in memory."""
        from lorameta.base_model.load import load_base, pass_dtype

        if self.loaded is not None:
            return self.loaded
        bank = self.require_bank()
        return load_base(bank.base_model, bank.base_revision, pass_dtype())

    def require_bank(self) -> AdapterBank:
        """Return the bank; UsageError in a call on distances alone."""
        if self.bank is None:
            raise UsageError(f"the operator {self.name!r} needs a bank; call lorameta.generate_adapter")
        return self.bank

    @cached_property
    def rows(self) -> list[Example]:
        """As many labelled rows as the option ``rows`` says, drawn by seed, in their order."""
        return draw(self.examples, int(self.options["rows"]), seed=self.seed, operator=self.name)

    def nearest(self, count: int | None) -> np.ndarray:
        """Return the indices of the `count` smallest distances (of all for None), nearest first, ties by place."""
        return np.argsort(self.distances, kind="stable")[: len(self.distances) if count is None else count]

    @cached_property
    def candidates(self) -> np.ndarray:
        """Indices of the adapters that take part, by the options ``candidates`` and ``shortlist``; nearest first."""
        from lorameta.operator.shortlist import shortlist

        if self.chosen is not None:
            return self.chosen
        return shortlist(self, self.options.get("candidates"), self.options.get("shortlist", "nearest"))

    def adapters(self, indices: Sequence[int] | np.ndarray) -> list[Adapter]:
        """Return the adapters of the bank, fetched and read; an A that several have in common is in memory once."""
        bank = self.require_bank()
        names = [bank.ids[int(index)] for index in indices]
        bank.fetch(names)
        known: dict[str, np.ndarray] = {}

        def slim(adapter: Adapter) -> Adapter:
            modules = {}
            for module, pair in adapter.modules.items():
                A = known.setdefault(module, pair.A)
                modules[module] = replace(pair, A=A) if A is pair.A or np.array_equal(A, pair.A) else pair
            return replace(adapter, modules=modules)

        return [slim(bank[name]) for name in names]

    def mixture_loss(self, indices: Sequence[int] | np.ndarray, rows: Sequence[Example] | None = None) -> MixtureLoss:
        """Return the loss and logits of mixtures of some adapters on labelled rows (:attr:`rows` unless given)."""
        from lorameta.operator.mixture_loss import MixtureLoss

        return MixtureLoss(self.base, self.adapters(indices), self.rows if rows is None else rows)

    def spread(self, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weights of some adapters as weights of the whole bank, 0 elsewhere."""
        whole = np.zeros(len(self.distances))
        whole[indices] = weights
        return whole


def draw(examples: Sequence[Example], count: int, *, seed: int, operator: str) -> list[Example]:
    """Draw at most `count` labelled rows by seed; they keep their order.

    Raises
    ------
    DataError
        No row has an output.
    """
    labelled = [example for example in examples if example.outputs]
    if not labelled:
        raise DataError(
            f"none of the {len(examples)} rows has an output, and the operator {operator!r} measures losses on "
            "labelled rows; add outputs (--output-column), or take another operator"
        )
    if len(labelled) <= count:
        return labelled
    chosen = np.random.default_rng(seed).choice(len(labelled), size=count, replace=False)
    return [labelled[index] for index in sorted(chosen)]
