"""A mixture in, the adapter out: what the weights name is read, combined and accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lorameta.adapter import Adapter
from lorameta.adapter.lora import layout
from lorameta.bank.bank import VERIFY_BYTES
from lorameta.combiner import COMBINERS, combine
from lorameta.combiner.parallel import each
from lorameta.errors import UsageError
from lorameta.mixing.clock import Clock
from lorameta.operator import multi_task_file

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank
    from lorameta.mixing.mixture import Mixture


def check_combiner(name: str) -> None:
    """Raise UsageError for a combiner that there is not."""
    if name not in ("auto", *COMBINERS):
        raise UsageError(f"unknown combiner {name!r}; there are {', '.join(COMBINERS)} and auto")


def add_up(mixture: Mixture, bank: AdapterBank, *, combiner: str = "auto", rank: int | None = None) -> Adapter:
    """Combine the adapters of a mixture.

    Parameters
    ----------
    mixture : Mixture
    bank : AdapterBank
        That it was found for.
    combiner, rank
        See :func:`lorameta.generate_adapter`.

    Returns
    -------
    Adapter
        With ``weights`` and ``report``.
    """
    clock = Clock()
    used = [(name, weight) for name, weight in zip(mixture.ids, mixture.weights, strict=True) if weight != 0]
    adapters, verified = _read(bank, [name for name, _ in used])
    if mixture.multi_task:
        adapters[multi_task_file.NAME] = _scaled_like(multi_task_file.load(bank), adapters)
        used.append((multi_task_file.NAME, mixture.multi_task))
    combiner = mixture.combiner(adapters, combiner)
    modules, errors = combine(
        list(adapters.values()), np.array([weight for _, weight in used]), method=combiner, rank=rank
    )
    clock.lap("combine")
    report = mixture.report() | {
        "bank": bank.name,
        "combiner": combiner,
        "rank": max(pair.rank for pair in modules.values()),
        "truncation_error": errors,
        "summed_rank": sum(adapter.rank for adapter in adapters.values()),
        "absent_modules": _absent(adapters, modules),
        "verified": verified,
        "forecast": mixture.forecast(bank, combiner),
        "sources": mixture.sources(bank),
        "seconds": {name: round(value, 3) for name, value in (mixture.seconds | clock.laps).items()},
    }
    adapter = Adapter(modules, bank.base_model, bank.base_revision, dict(report["weights"]), report)
    adapter.warn_if_zero(used[0][0] if len(used) == 1 else "the mixture")
    return adapter


def _read(bank: AdapterBank, names: Sequence[str]) -> tuple[dict[str, Adapter], bool]:
    """Return the adapters of a mixture, and whether their hashes were verified: in memory if that is little, else
    lazily."""
    bank.fetch(names)
    if sum(bank.records[name].bytes for name in names) > VERIFY_BYTES:
        return {name: bank.lazy(name) for name in names}, False
    return each(bank.__getitem__, names), True


def _scaled_like(adapter: Adapter, others: Mapping[str, Adapter]) -> Adapter:
    """Return the adapter with the scaling of the first of the others: averages of factors need one for all."""
    first = next(iter(others.values()), adapter)
    scaling = {module: s for module, (_, _, _, s) in layout(first.modules).items() if s}
    modules = {
        module: pair.with_scaling(scaling[module]) if module in scaling else pair
        for module, pair in adapter.modules.items()
    }
    return replace(adapter, modules=modules)


def _absent(adapters: Mapping[str, Adapter], modules: Mapping[str, object]) -> dict[str, list[str]]:
    """Return which adapters lack which of the mixed modules; there they counted as zero."""
    lacking = {name: sorted(set(modules) - set(adapter.modules)) for name, adapter in adapters.items()}
    return {name: found for name, found in lacking.items() if found}
