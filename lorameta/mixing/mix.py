"""From a dataset to its mixture: what `generate_adapter` does before any adapter is added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from lorameta.mixing.auto import Auto
from lorameta.mixing.compare import compare
from lorameta.mixing.weigh import weigh
from lorameta.operator.choice import choose
from lorameta.operator.progress import Progress

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank
    from lorameta.data import Dataset
    from lorameta.mixing.mixture import Mixture

#: What ``auto`` takes where there is nothing else to go by than the distances.
FALLBACK = "normalized"


def open_bank(bank: AdapterBank | str | PathLike[str] | None) -> AdapterBank:
    """Open a bank; None is the default."""
    from lorameta.bank import AdapterBank
    from lorameta.bank.locate import DEFAULT

    return bank if isinstance(bank, AdapterBank) else AdapterBank.open(DEFAULT if bank is None else bank)


def mix_rows(
    dataset: Dataset,
    bank: AdapterBank | str | PathLike[str] | None,
    *,
    distance: str,
    operator: str,
    temperature: float | None,
    top_k: int | None,
    operator_options: Mapping[str, Any] | None,
    budget: float,
    fit: bool | None,
    seed: int,
    columns: Mapping[str, Any],
    progress: Progress | Callable[[int], object] | None,
) -> tuple[Mixture, Auto, AdapterBank]:
    """Read, encode, compare and weigh; the parameters are those of :func:`lorameta.generate_adapter`.

    Returns
    -------
    mixture : Mixture
    auto : Auto
        Which may still have a readout to fit.
    bank : AdapterBank
    """
    from lorameta.data import read_examples

    tell = Progress.of(progress)
    by_itself = operator == "auto" and temperature is None and top_k is None
    name = FALLBACK if operator == "auto" else operator
    choice = choose(name, temperature=temperature, top_k=top_k, options=operator_options)
    auto = Auto(budget, readout=fit, seed=seed)
    bank = open_bank(bank).keeping()  # several stages read the same adapters
    rows, read = read_examples(dataset, require_output=False, **columns)
    examples = bank.prompts(rows)
    choice.operator.require(bank, distance, choice.options)  # what is missing shows before the work
    also = [part for part in choice.operator.needs if part == "sentence"]
    about = read.as_dict() if read.hub else None
    found = compare(examples, bank, distance, also=also, seed=seed)
    if by_itself:
        return replace(auto.weigh(found, choice, tell), read=about), auto, bank
    auto.fit_all(examples)
    return replace(weigh(found, choice, progress=tell), read=about), auto, bank
