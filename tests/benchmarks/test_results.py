"""Every file of results says how it was made, and the means of the study are those of its tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_names_its_command_and_commit(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["command"].startswith("python ")
    assert len(result["commit"]) >= 7
    assert not [word for word in result["command"].split() if word.startswith("/")], "a path of one machine"


def quality(name: str = "quality"):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_the_means_of_the_study_are_those_of_its_tasks():
    study = quality()
    rows = list(study["by_task"].values())
    assert len(rows) == study["tasks"]
    names = [name for name, value in rows[0].items() if isinstance(value, dict)]
    assert {"base", "fine-tuned", study["default"], study["reference"]} <= set(names)
    for name in names:
        line = study["settings"]["loo"][name]
        for metric in ("exact_match", "rouge_l", "loss"):
            mean = sum(row[name][metric] for row in rows) / len(rows)
            assert line[metric] == pytest.approx(mean, abs=2e-4)
            base, tuned = (sum(row[end][metric] for row in rows) / len(rows) for end in ("base", "fine-tuned"))
            assert line[f"{metric}_gap_closed"] == pytest.approx((mean - base) / (tuned - base), abs=2e-3)
            low, high = line[f"{metric}_interval"]
            assert low <= line[metric] <= high


def test_the_record_of_the_bank_tiny_is_of_the_bank_that_is_here_and_its_gains_are_those_that_were_measured():
    from lorameta.bank import AdapterBank
    from lorameta.mixing.forecast import Record

    study, bank = quality("quality_tiny"), AdapterBank.open("embedded")
    assert study["bank"]["content"] == bank.content_hash
    record = Record.load(bank.path / "leave_one_out.json")
    assert (record.bank, sorted(record.ids)) == (bank.content_hash, sorted(bank.ids))
    for metric, sign in (("exact_match", 1), ("rouge_l", 1), ("loss", -1)):
        for name, gain in zip(record.ids, record.gains[metric], strict=True):
            row = study["by_task"][name]
            method = study["forecast"]["method"]
            assert gain == pytest.approx(sign * (row[method][metric] - row["base"][metric]), abs=2e-4)


def test_the_default_is_the_row_that_the_study_calls_so():
    from lorameta import generate
    from lorameta.mixing.mix import FALLBACK
    from lorameta.operator import OPERATORS

    assert quality()["default"] == f"{FALLBACK} {generate.DISTANCE} (factor)"
    assert (OPERATORS[FALLBACK].temperature, generate.OPERATOR, generate.COMBINER) == (1.0, "auto", "auto")


def test_differences_in_pairs_are_those_of_the_tasks():
    from benchmarks.choice_tables import PAIRS, over

    study = quality("quality_smollm2")
    lines, rows = study["settings"]["loo"], list(study["by_task"].values())
    compared = [(name, control) for name, controls in PAIRS.items() for control in controls]
    there = [(name, control) for name, control in compared if name in lines and control in lines]
    assert there
    for name, control in there:
        for metric in ("exact_match", "loss"):
            mean, low, high = over(lines, name, control, metric)
            assert mean == pytest.approx(sum(r[name][metric] - r[control][metric] for r in rows) / len(rows), abs=2e-4)
            assert low <= mean <= high
