"""What the study measures: nobody uses his own adapter, nothing is measured twice, and the means are right."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import tables
from benchmarks.quality import study as study
from benchmarks.quality.case import LOO, SOURCE, Case, Made, counted, sources_of
from benchmarks.quality.methods import METHODS, STUDY, Method, randomised, with_shots
from benchmarks.quality.statistics import comparison
from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from lorameta.data import Example
from lorameta.evaluate import Scorer

ROWS = [
    {"input": f"Definition: Name the animal.\n\nInput: {animal} {n}\n\nOutput:", "output": animal}
    for animal in ("dog", "cat", "owl")
    for n in range(14)
]


@pytest.fixture(scope="module")
def bank() -> AdapterBank:
    """Four adapters, the first two of one source."""
    whole = AdapterBank.open("embedded")
    sources = sources_of(whole)
    first = next(name for name in whole if list(sources.values()).count(sources[name]) > 1)
    second = next(name for name in whole if name != first and sources[name] == sources[first])
    return whole.select([first, second, *[name for name in whole if sources[name] != sources[first]][:2]])


@pytest.fixture(scope="module")
def data(bank: AdapterBank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    for name in bank:
        text = "".join(json.dumps(row) + "\n" for row in ROWS)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def scorer(bank: AdapterBank) -> Scorer:
    return Scorer(bank.base_model, max_new_tokens=4)


def test_a_task_never_uses_its_own_adapter_nor_one_of_its_source(bank, data, scorer):
    first, second, *others = bank.ids
    assert set(Case(bank, scorer, data, first, LOO, 3).bank.ids) == {second, *others}
    case = Case(bank, scorer, data, first, SOURCE, 3)
    assert set(case.bank.ids) == set(others)
    made = METHODS["uniform"].make(case)
    assert set(made.adapter.weights) == set(others)
    assert sum(made.adapter.weights.values()) == pytest.approx(1)


def test_test_rows_are_neither_learned_from_nor_more_than_asked_for(bank, data, scorer):
    case = Case(bank, scorer, data, bank.ids[0], LOO, 3)
    assert len(case.test) == 3
    assert not {row.input for row in case.test} & {row.input for row in case.train}


def test_a_random_bank_has_the_norms_and_none_of_the_directions(bank):
    real, drawn = bank[bank.ids[0]], randomised(bank[bank.ids[0]], bank.ids[0])
    assert drawn.norm() == pytest.approx(real.norm(), rel=1e-5)
    for module, pair in real.modules.items():
        other = drawn.modules[module]
        assert other.norm() == pytest.approx(pair.norm(), rel=1e-5)
        cosine = np.vdot(pair.delta(), other.delta()) / (pair.norm() * other.norm())
        assert abs(cosine) < 0.3


def test_few_shot_puts_solved_examples_behind_the_definition():
    shot = Example("Definition: Add.\n\nInput: 1 2\n\nOutput:", ("3",))
    asked = with_shots("Definition: Add.\n\nInput: 4 5\n\nOutput:", [shot])
    assert asked == "Definition: Add.\n\nInput: 1 2\n\nOutput: 3\n\nInput: 4 5\n\nOutput:"


def test_shuffled_weights_are_the_same_values(bank, data, scorer, monkeypatch):
    given = {bank.ids[1]: 0.7, bank.ids[2]: 0.2, bank.ids[3]: 0.1}
    case = Case(bank, scorer, data, bank.ids[0], LOO, 3)
    monkeypatch.setattr(case, "generate", lambda **_: Adapter({}, "base", weights=given))
    seen = []
    monkeypatch.setattr(
        "benchmarks.quality.methods.combine", lambda adapters, weights: (seen.extend(weights), ({}, {}))[1]
    )
    METHODS["shuffled weights"].make(case)
    assert sorted(seen) == sorted(given.values())


def test_every_token_that_goes_into_the_model_is_counted(scorer):
    import torch

    ids = scorer.tokenizer("one two three", return_tensors="pt")["input_ids"]
    with counted() as cost, torch.inference_mode():
        scorer.model(input_ids=ids)
        scorer.model(input_ids=ids)
    assert cost["forward_tokens"] == 2 * ids.numel()
    with torch.inference_mode():
        scorer.model(input_ids=ids)
    assert cost["forward_tokens"] == 2 * ids.numel()


def test_a_second_run_measures_only_what_is_new(bank, data, scorer, tmp_path, monkeypatch):
    made = []

    def note(name):
        return lambda case: (made.append((case.setting, case.task, name)), Made(scores={"loss": 1.0}))[1]

    for name in ("one", "two, with a comma"):
        monkeypatch.setitem(METHODS, name, Method(name, "test", note(name), uses_bank=name == "one"))
    monkeypatch.setattr(study, "opened", lambda *_: (bank, scorer))
    options = {"data": data, "bank": "any", "dtype": "auto", "rows": 3, "methods": ["one"], "again": []}
    first = bank.ids[0]
    for setting in (LOO, SOURCE):
        study.measure(first, setting, tmp_path, options)
    assert made == [(LOO, first, "one"), (SOURCE, first, "one")]
    made.clear()
    both = options | {"methods": ["one", "two, with a comma"]}
    for setting in (LOO, SOURCE):
        study.measure(first, setting, tmp_path, both)
    assert made == [(LOO, first, "two, with a comma")]
    with study.score_file(tmp_path, first, LOO).open("a") as file:
        file.write('{"method": "thr')  # a run that was killed
    assert set(study.read_scores(study.score_file(tmp_path, first, LOO))) == {"one", "two, with a comma"}
    asked = SimpleNamespace(settings=[LOO, SOURCE], methods=both["methods"])
    found = study.collect(tmp_path, list(bank.ids), asked)
    assert {setting: list(lines) for setting, lines in found.items()} == {LOO: [first], SOURCE: [first]}


def test_options_name_methods_and_the_ends_come_along():
    asked = study.parse(["--data", "d", "--methods", "few-shot prompt, 3,fine-tuned on 16 rows, seconds of trial"])
    assert asked.methods == [
        "base", "few-shot prompt, 3", "trial", "fine-tuned on 16 rows, seconds of trial", "own adapter",
    ]  # fmt: skip
    assert set(study.parse(["--data", "d"]).methods) == set(STUDY)
    with pytest.raises(SystemExit):
        study.parse(["--data", "d", "--methods", "no such method"])


def test_so_many_tasks_are_of_as_many_families_as_possible():
    bank = AdapterBank.open("embedded")
    families = {bank.records[name].family for name in bank}
    chosen = study.chosen_tasks(bank, str(len(families)))
    assert {bank.records[name].family for name in chosen} == families
    assert sorted(study.chosen_tasks(bank, "")) == sorted(bank.ids)


def test_comparison_of_scores_known_by_hand(monkeypatch):
    monkeypatch.setitem(METHODS, "m", Method("m", "test", lambda case: Made()))

    def found(exact: float) -> dict:
        cost = {"labelled": 4, "forward_tokens": 10, "seconds": 1.0, "cpu_seconds": 2.0}
        return {"exact_match": exact, "rouge_l": exact, "loss": 2 - exact, **cost}

    values = {"base": (0.0, 0.2), "own adapter": (1.0, 1.0), "uniform": (0.1, 0.3), "m": (0.6, 0.7)}
    scores = {f"t{i}": {name: found(v[i]) for name, v in values.items()} for i in range(2)}
    line = comparison(scores, list(values))["m"]
    assert line["exact_match_gap_closed"] == pytest.approx((0.65 - 0.1) / 0.9, abs=1e-4)
    assert line["loss_gap_closed"] == pytest.approx(line["exact_match_gap_closed"], abs=1e-4)
    assert line["over"]["uniform"]["exact_match"] == pytest.approx([0.45, 0.4, 0.5])
    assert line["over"]["uniform"]["loss"][0] == pytest.approx(-0.45)
    assert line["exact_match_interval"] == [0.6, 0.7]
    assert (line["labelled"], line["forward_tokens"]) == (4, 10)


def test_the_tables_read_what_the_report_writes(monkeypatch):
    """Every group of methods is shown, with its costs; the README's table has the methods that it names."""
    rng = np.random.default_rng(0)

    def found() -> dict:
        cost = {"labelled": 16, "forward_tokens": 1234, "seconds": 1.0, "cpu_seconds": 2.0}
        return {"exact_match": rng.random(), "rouge_l": rng.random(), "loss": rng.random(), **cost}

    scores = {task: {name: found() for name in METHODS} for task in "abc"}
    study = {
        "bank": {"name": "smollm2"}, "tasks": 3, "settings": {LOO: comparison(scores, list(METHODS))},
    }  # fmt: skip
    monkeypatch.setattr(tables, "load", lambda name: study)
    monkeypatch.setattr(tables, "study_name", lambda: "quality_smollm2")
    shown = {line.split(" | ")[0].strip("| ") for line in tables.study_table(LOO)[2:]}
    assert shown == set(METHODS)
    assert "1,234" in tables.study_table(LOO)[2]
    short = tables.study_table(LOO, tables.SHORT)
    assert short[0].startswith("| bank smollm2, 3 tasks")
    assert len(short) - 2 == len(set(tables.SHORT) & set(METHODS)) >= 10
    assert tables.study_table(SOURCE) == ["Not measured."]
