"""A comparison and a checked choice of operator in, a mixture out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.mixing.clock import Clock
from lorameta.mixing.mixture import Mixture
from lorameta.operator.context import Context
from lorameta.operator.progress import Progress

if TYPE_CHECKING:
    from lorameta.base_model.load import Base
    from lorameta.mixing.compare import Comparison
    from lorameta.operator.choice import Choice

#: Of a bank whose adapters are on the Hub: as many adapters as ``trial`` looks at, so that a mix fetches these alone.
HUB_TOP_K = 20


def weigh(found: Comparison, choice: Choice, *, progress: Progress | None = None, base: Base | None = None) -> Mixture:
    """Find the mixing weights.

    Parameters
    ----------
    found : Comparison
    choice : Choice
    progress : Progress, optional
    base : Base, optional
        The bank's base, if it is in memory already; an operator that needs it loads it otherwise.
    """
    clock = Clock()
    on_hub = any(record.hub for record in found.bank.records.values())
    if choice.operator.dense and choice.top_k is None and on_hub:
        choice = replace(choice, top_k=min(HUB_TOP_K, len(found.bank)))
    weights, details = choice.operator(context_of(found, choice, progress or Progress(), base))
    clock.lap("weigh")
    return mixture_of(found, choice, weights, details, clock.laps)


def context_of(found: Comparison, choice: Choice, progress: Progress, base: Base | None = None) -> Context:
    """Return what an operator is given."""
    return Context(
        found.distances,
        1.0 if choice.temperature is None else choice.temperature,
        choice.top_k,
        choice.options,
        found.seed,
        choice.operator.name,
        found.bank,
        found.distance,
        found.summary,
        found.examples,
        progress,
        base,
    )


def mixture_of(
    found: Comparison,
    choice: Choice,
    weights: np.ndarray,
    details: dict[str, Any],
    seconds: Mapping[str, float] | None = None,
) -> Mixture:
    """Return the mixture of weights that an operator found."""
    return Mixture(
        found.bank.ids,
        found.distances,
        weights,
        len(found.examples),
        found.distance,
        choice.operator.name,
        choice.temperature,
        choice.top_k,
        found.seconds | dict(seconds or {}),
        details,
        found.outside,
        found.bank.about_rows(found.examples),
        multi_task=float(details.get("multi_task", 0.0)),
    )
