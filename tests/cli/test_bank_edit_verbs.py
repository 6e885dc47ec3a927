"""`lorameta bank`: build, add and remove."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lorameta.bank import AdapterBank
from tests.bank.editing import make_newcomer, summary_for
from tests.conftest import TASKS, task_rows


@pytest.fixture
def root(tiny_bank, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bank, tmp_path / "bank"))


def test_build_then_generate(lorameta, tiny_bank, tiny_rows, tmp_path):
    (tmp_path / "rows").mkdir()
    for task in TASKS:
        lines = [json.dumps(row) for row in task_rows(task)]
        (tmp_path / "rows" / f"{task}.jsonl").write_text("\n".join(lines))
        shutil.copytree(tiny_bank / "adapters" / task, tmp_path / "adapters" / task)
    words = ["bank", "build", tmp_path / "new", "--adapters", tmp_path / "adapters", "--datasets", tmp_path / "rows"]
    words += ["--base", tiny_bank / "base", "--copy-base", "--json"]
    said = json.loads((tmp_path / "adapters" / "opposite" / "adapter_config.json").read_text())
    refused = lorameta(*words)
    name = said["base_model_name_or_path"]
    if refused.code:
        assert f"--base-name {name}" in refused.err
        built = lorameta(*words, "--base-name", name)
    else:
        built = refused
    assert built.code == 0, built.err
    assert (built.json["adapters"], built.json["left_out"]) == (4, [])
    assert lorameta("bank", "check", tmp_path / "new").code == 0
    made = lorameta("generate", tiny_rows, "--bank", tmp_path / "new", "--distance", "js", "-o", tmp_path / "adapter")
    assert made.code == 0, made.err
    again = lorameta(*words)
    assert again.code == 2
    assert "is a bank already; add to it with: lorameta bank add" in again.err


def test_build_lists_what_is_refused(lorameta, tiny_bank, tmp_path):
    for task in TASKS:
        shutil.copytree(tiny_bank / "adapters" / task, tmp_path / "adapters" / task)
        (tmp_path / "adapters" / task / "adapter_model.safetensors").write_bytes(b"<html>")
    words = ["bank", "build", tmp_path / "new", "--adapters", tmp_path / "adapters", "--base", tiny_bank / "base"]
    result = lorameta(*words, "--summaries", tiny_bank / "summaries.safetensors")
    assert result.code == 2
    assert all(f"{task}: " in result.err for task in TASKS)
    assert "Traceback" not in result.err


def test_add_and_remove(lorameta, root, tmp_path):
    directory = make_newcomer(tmp_path, "newcomer", 5)
    summary_for(root, "newcomer").save(tmp_path / "s.safetensors")
    lorameta("bank", "fit", root, "-d", "js", "--width", 2)
    added = lorameta("bank", "add", root, directory, "--summary", tmp_path / "s.safetensors", "--family", "words")
    assert added.code == 0, added.err
    assert "Added newcomer to the bank tiny-bank, which has 5 adapters now." in added.out
    assert "lorameta bank fit --distance js" in added.out
    assert AdapterBank.open(root).records["newcomer"].family == "words"
    twice = lorameta("bank", "add", root, directory, "--summary", tmp_path / "s.safetensors")
    assert twice.code == 2
    assert "--replace" in twice.err
    unknown = lorameta("bank", "remove", root, "newcommer")
    assert unknown.code == 2
    assert "did you mean newcomer?" in unknown.err
    removed = lorameta("bank", "remove", root, "newcomer", "opposite", "--json").json
    assert (removed["removed"], removed["adapters"]) == (["newcomer", "opposite"], 3)
    assert removed["invalid"] == ["operators/neural-js.safetensors"]
    assert "Out of date" in lorameta("bank", "info", root).out
    assert lorameta("bank", "check", root).code == 0


def test_check_tells_notes_beside_problems(lorameta, tiny_bank):
    report = lorameta("bank", "check", tiny_bank, "--json").json
    assert (report["ok"], report["notes"]) == (True, [])
