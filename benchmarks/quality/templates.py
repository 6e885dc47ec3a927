"""What a bank's prompts could have been: in the base's chat template, and without definitions in the distances."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from benchmarks.quality.case import Case, Made
from benchmarks.quality.methods import BLANK, few_shot, in_chat, method
from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from lorameta.combiner import combine
from lorameta.data import Example
from lorameta.encoder import Summaries


@method("few-shot prompt, 3, chat template", "prompts", uses_bank=False)
def few_shot_in_chat(case: Case) -> Made:
    made = few_shot(case, 3)
    return replace(made, prompts=in_chat(case, made.prompts or ()))


@method("own adapter, chat template", "prompts", uses_bank=False)
def own_in_chat(case: Case) -> Made:
    """The task's adapter, trained again from the same A on the same rows, and asked, in the base's chat template."""
    from lorameta.base_model.load import Base
    from lorameta.data.split import Parts
    from lorameta.training import LoraTraining, train_adapter

    bank, known = case.whole, case.whole.records[case.task].training["settings"]
    names = {field.name for field in fields(LoraTraining)}
    settings = LoraTraining(**{name: value for name, value in known.items() if name in names})
    rows = in_chat(case, case.train[: known.get("max_rows")])
    parts = Parts(tuple(rows), tuple(in_chat(case, case.validation[: known.get("measured_rows")])))
    initial = {name: pair.A for name, pair in bank[case.task].modules.items()} if settings.freeze_a else None
    base = Base(case.scorer.model, case.scorer.tokenizer, bank.base_model, bank.base_revision)
    trained = train_adapter(parts, base, settings, initial=initial)
    return Made(trained.adapter, prompts=in_chat(case, case.test), labelled=len(rows))


@method("normalized js without definitions", "distances")
def by_changing_parts(case: Case) -> Made:
    """The paper's setting on the tokens behind the definition that all prompts of a task begin with."""
    from lorameta.distance import distances
    from lorameta.mixing.compare import summarise
    from lorameta.operator.weights import mixing_weights

    known = behind_definitions(case.whole, case.data).select(case.bank.ids)
    mine = summarise(without_definition(case.train), case.whole, "js")
    weights = mixing_weights(distances(mine, known, "js"), "normalized")
    modules, _ = combine([case.bank[name] for name in case.bank.ids], weights)
    return Made(Adapter(modules, case.bank.base_model))


def without_definition(rows: Sequence[Example]) -> list[Example]:
    return [replace(row, input=row.input.partition(BLANK)[2] or row.input) for row in rows]


@functools.cache
def behind_definitions(bank: AdapterBank, data: Path) -> Summaries:
    """Summaries of the train rows of all tasks, without their definitions, once a process."""
    from benchmarks.rows import read_parts
    from lorameta.mixing.compare import summarise

    rows = {name: without_definition(read_parts(data, name).train) for name in bank.ids}
    return Summaries.from_list(list(bank.ids), [summarise(some, bank, "js") for some in rows.values()])
