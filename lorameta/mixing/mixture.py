"""`Mixture`: what comparing a dataset with a bank found, before any adapter is added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.mixing.novelty import Unusual


@dataclass(frozen=True)
class Mixture:
    """What the dataset, compared with the bank, asks for: everything but the adapter itself.

    Attributes
    ----------
    ids : tuple of str
        The bank's adapters, in the order of `distances` and `weights`.
    distances, weights : numpy.ndarray of shape (N,)
        float64. The weights are non-negative and, with `multi_task`, sum to 1, with three exceptions: those of
        ``sparse`` and ``search`` may be negative, those of ``search`` and ``stack`` may have another sum.
    rows : int
        Examples that were summarised.
    temperature : float or None
        None where the operator has none.
    details : dict
        The operator's own options, as used, and what it found on the way; JSON-able.
    outside : Unusual or None
        How unusual the dataset is for the bank; None for a bank of one adapter.
    prompts : dict
        What the prompts of the rows share, :func:`lorameta.base_model.templates.about_rows`.
    read : dict or None
        Of a dataset of the Hub, :meth:`lorameta.data.ReadReport.as_dict`.
    seconds : dict of str to float
        Wall time of each step.
    multi_task : float
        Weight of the bank's adapter of all tasks (:mod:`lorameta.operator.multi_task_file`), which is not among `ids`.
    auto : dict
        Of ``operator="auto"``: what it chose, why, and how every stage did on held-out rows; JSON-able.
    """

    ids: tuple[str, ...]
    distances: np.ndarray
    weights: np.ndarray
    rows: int
    distance: str
    operator: str
    temperature: float | None
    top_k: int | None
    seconds: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    outside: Unusual | None = None
    prompts: dict[str, Any] = field(default_factory=dict)
    read: dict[str, Any] | None = None
    multi_task: float = 0.0
    auto: dict[str, Any] = field(default_factory=dict)

    def combiner(self, adapters: AdapterBank | Mapping[str, Adapter], asked: str) -> str:
        """`asked`, or for ``"auto"`` what suits the operator and, of `adapters`, those of the largest weights.

        Weights that were found by running the model were found for the sum, and `delta` measured better for them.
        """
        from lorameta.combiner.auto import SAMPLE, choose
        from lorameta.operator import OPERATORS

        if asked != "auto":
            return asked
        if "rows" in OPERATORS[self.operator].needs:
            return "delta"
        return choose([adapters[name] for name, _, weight in self.ranked()[:SAMPLE] if weight != 0])

    def forecast(self, bank: AdapterBank, combiner: str = "auto") -> dict[str, dict[str, float]] | None:
        """Gain over the base to expect: metric → {estimate, low, high}, from the leave-one-out record of `bank`.

        None where the bank has no record for these settings; see :class:`lorameta.mixing.forecast.Record`.
        """
        from lorameta.mixing.forecast import FILE, SETTINGS, Record
        from lorameta.operator import OPERATORS

        if self.outside is None or not (bank.path / FILE).is_file():
            return None  # before an adapter is read for nothing
        share = OPERATORS[self.operator].options.get("share")
        if share is not None and self.multi_task != share.default:
            return None  # records are of the default
        settings = {name: getattr(self, name) for name in SETTINGS if name != "combiner"}
        settings["combiner"] = self.combiner(bank, combiner)
        record = Record.of(bank, settings)
        return None if record is None else record.forecast(self.outside.p_value)

    def ranked(self) -> list[tuple[str, float, float]]:
        """(id, distance, weight), largest absolute weight first, nearest first among equals."""
        order = np.lexsort((np.arange(len(self.ids)), self.distances, -np.abs(self.weights)))
        return [(self.ids[i], float(self.distances[i]), float(self.weights[i])) for i in order]

    def sources(self, bank: AdapterBank) -> dict[str, dict[str, Any]]:
        """Return what a card must say of every adapter that has a weight."""
        from lorameta.operator.multi_task_file import NAME, provenance

        found = {name: bank.records[name].provenance() for name, w in zip(self.ids, self.weights, strict=True) if w}
        return found | ({NAME: provenance(bank)} if self.multi_task else {})

    def report(self) -> dict[str, Any]:
        """JSON-able account of distances and weights, with the effective number (Σ|w|)²/Σw²."""
        from lorameta.operator import effective_number
        from lorameta.operator.multi_task_file import NAME

        beside = {NAME: self.multi_task} if self.multi_task else {}
        return {
            "rows": self.rows,
            **self.prompts,
            **({} if self.read is None else {"read": self.read}),
            "distance": self.distance,
            "operator": self.operator,
            "temperature": self.temperature,
            "top_k": self.top_k,
            **({"operator_details": dict(self.details)} if self.details else {}),
            **({"auto": dict(self.auto)} if self.auto else {}),
            "effective_number": round(effective_number(np.array([*beside.values(), *self.weights])), 4),
            "nearest": self.ids[int(np.argmin(self.distances))],
            "outside": self.outside and self.outside.as_dict(),
            "distances": {name: round(distance, 6) for name, distance, _ in self.ranked()},
            "weights": beside | {name: weight for name, _, weight in self.ranked() if weight != 0},
        }
