"""`lorameta bank train` as it is typed: what it prints, what it leaves behind, how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.bank import AdapterBank
from tests.conftest import task_rows

OPTIONS = (
    "--rank", 2, "--targets", "q_proj,v_proj", "--learning-rate", 2e-2, "--epochs", 1, "--batch-size", 8, "--jobs", 1,
)  # fmt: skip


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("animal_sound", "number_word"):
        rows = [{"frage": row["input"], "antwort": row["output"]} for row in task_rows(name, 24)]
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def words(tasks: Path, tiny_bank: Path, output: Path) -> list[object]:
    columns = ("--input-column", "frage", "--output-column", "antwort")
    return ["bank", "train", tasks, "--base", tiny_bank / "base", "-o", output, *OPTIONS, *columns]


def test_a_bank_that_the_other_verbs_use(lorameta, tasks, tiny_bank, tiny_rows, tmp_path):
    result = lorameta(*words(tasks, tiny_bank, tmp_path / "bank"))
    assert result.code == 0, result.err
    assert "To train: 2 adapters" in result.err
    assert "2/2 " in result.err
    assert "lorameta bank check" in result.out
    assert lorameta("bank", "check", tmp_path / "bank").code == 0
    assert lorameta("bank", "list", tmp_path / "bank", "--json").json["adapters"][0]["id"] == "animal_sound"
    made = lorameta("generate", tiny_rows, "-o", tmp_path / "adapter", "--bank", tmp_path / "bank", "--json")
    assert made.code == 0
    assert set(made.json["weights"]) == {"animal_sound", "number_word"}


def test_json_tells_the_plan_and_the_result(lorameta, tasks, tiny_bank, tmp_path):
    first = lorameta(*words(tasks, tiny_bank, tmp_path / "bank"), "--json").json
    assert first["plan"]["missing"] == ["animal_sound", "number_word"]
    assert first["plan"]["settings"]["targets"] == ["q_proj", "v_proj"]
    assert first["plan"]["settings"]["alpha"] == 4.0
    assert len(first["adapters"]["number_word"]["validation_loss"]) == 2
    again = lorameta(*words(tasks, tiny_bank, tmp_path / "bank"), "--json")
    assert again.json["plan"]["finished"] == ["animal_sound", "number_word"]
    assert again.json["adapters"] == first["adapters"]


def test_a_dry_run_writes_nothing(lorameta, tasks, tiny_bank, tmp_path):
    result = lorameta(*words(tasks, tiny_bank, tmp_path / "bank"), "--dry-run")
    assert result.code == 0
    assert "To train: 2 adapters" in result.out
    assert not (tmp_path / "bank").exists()


def test_a_failed_task_is_exit_code_1_and_the_others_are_there(lorameta, tasks, tiny_bank, tmp_path):
    (tasks / "empty.json").write_text("[]")
    result = lorameta(*words(tasks, tiny_bank, tmp_path / "bank"))
    assert result.code == 1
    assert "failed: empty: " in result.err
    assert "Traceback" not in result.err
    assert len(AdapterBank.open(tmp_path / "bank")) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--targets", "nothing"], "no linear layer nothing"),
        (["--rank", "0"], "rank is 0"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--base", "no/such/base/at/all"], "there is no base"),
    ],
)
def test_wrong_calls_are_exit_code_2_and_leave_nothing(lorameta, tasks, tiny_bank, tmp_path, change, said, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = lorameta(*words(tasks, tiny_bank, tmp_path / "bank"), *change)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "bank").exists()
