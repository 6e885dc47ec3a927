"""Every number of the README's results comes from a file in benchmarks/results, and every file says how it was made."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_the_readme_says_what_the_results_say():
    spec = importlib.util.spec_from_file_location("fill_readme", ROOT / "benchmarks" / "fill_readme.py")
    assert spec is not None
    assert spec.loader is not None
    fill_readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill_readme)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert fill_readme.section() in readme
    assert fill_readme.filled(readme) == readme


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_names_its_command_and_commit(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["command"].startswith("python ")
    assert len(result["commit"]) >= 7


def test_the_leave_one_out_means_are_those_of_its_rows():
    study = json.loads((ROOT / "benchmarks" / "results" / "leave_one_out.json").read_text(encoding="utf-8"))
    for name, line in study["overall"].items():
        rows = [row for row in study["by_task"] if row["method"] == name]
        assert len(rows) == study["tasks"]
        for metric in ("exact_match", "rouge_l", "loss"):
            assert line[metric] == pytest.approx(sum(row[metric] for row in rows) / len(rows), abs=1e-4)
