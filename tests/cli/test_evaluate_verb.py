"""`lorameta evaluate`: the scores of the function, for adapters that fit the base; others are refused by name."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorameta.data import load_examples
from lorameta.evaluate import evaluate


@pytest.fixture
def adapter(lorameta, tiny_bank, tiny_rows, tmp_path):
    assert lorameta("generate", tiny_rows, "-o", tmp_path / "mine", "--bank", tiny_bank).code == 0
    return tmp_path / "mine"


def test_json_holds_what_the_function_finds(lorameta, tiny_bank, tiny_rows, adapter):
    words = ["--adapter", adapter, "--bank", tiny_bank, "--limit", 5, "--baselines", "--json"]
    result = lorameta("evaluate", tiny_rows, *words)
    assert result.code == 0, result.err
    scores = result.json["scores"]
    assert list(scores) == ["base", "mine", "nearest adapter", "uniform average"]
    assert result.json["nearest"] == "animal_sound"
    expected = evaluate(load_examples(tiny_rows)[:5], tiny_bank / "base", {"base": None, "mine": adapter})
    for name, one in expected.items():
        assert scores[name] == one.as_dict()
    assert scores["base"]["loss"] != scores["mine"]["loss"]


def test_text_is_a_table_with_a_row_for_each_model(lorameta, tiny_bank, tiny_rows, adapter):
    text = lorameta("evaluate", tiny_rows, "-a", adapter, "--bank", tiny_bank, "--limit", 2).out
    assert "Scored 2 of 12 rows" in text
    lines = [line.split()[0] for line in text.splitlines() if line]
    assert "base" in lines
    assert "mine" in lines


def test_directories_named_alike_are_told_apart(lorameta, tiny_bank, tiny_rows, adapter, tmp_path):
    other = tmp_path / "second" / "mine"
    shutil.copytree(adapter, other)
    words = ["-a", adapter, "-a", other, "--bank", tiny_bank, "--limit", 1]
    result = lorameta("evaluate", tiny_rows, *words, "--json")
    assert list(result.json["scores"]) == ["base", str(adapter), str(other)]
    twice = lorameta("evaluate", tiny_rows, "-a", adapter, "-a", adapter, "--bank", tiny_bank)
    assert twice.code == 2
    assert "twice" in twice.err


def test_rows_without_an_answer_are_refused_by_line(lorameta, tiny_bank, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": "a", "output": "b"}\n{"input": "c"}\n', encoding="utf-8")
    result = lorameta("evaluate", path, "--bank", tiny_bank)
    assert result.code == 2
    assert "rows.jsonl:2" in result.err


def test_an_adapter_of_another_base_is_refused_by_its_name(lorameta, tiny_bank, tiny_rows, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/other-7b"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    result = lorameta("evaluate", tiny_rows, "-a", adapter, "--bank", tiny_bank)
    assert result.code == 2
    assert "mine" in result.err
    assert "somebody/other-7b" in result.err
    assert "--bank" in result.err


def test_an_adapter_of_another_base_is_refused_by_its_shapes(lorameta, tiny_bank, tiny_rows, adapter):
    path = adapter / "adapter_model.safetensors"
    arrays = {k: np.concatenate([v, v], axis=1) if "lora_A" in k else v for k, v in load_file(path).items()}
    save_file(arrays, path)
    result = lorameta("evaluate", tiny_rows, "-a", adapter, "--bank", tiny_bank)
    assert result.code == 2
    assert re.search(r"\((\d+), 64\), which is \(\1, 32\) in the base", result.err)
    assert "Traceback" not in result.err


def test_a_missing_or_broken_adapter_is_named(lorameta, tiny_bank, tiny_rows, adapter, tmp_path):
    result = lorameta("evaluate", tiny_rows, "-a", tmp_path / "nowhere", "--bank", tiny_bank)
    assert result.code == 2
    assert "nowhere" in result.err
    (adapter / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    result = lorameta("evaluate", tiny_rows, "-a", adapter, "--bank", tiny_bank)
    assert result.code == 2
    assert "adapter_model.safetensors" in result.err


@pytest.mark.parametrize(
    "name", ["tiny-base-model", "unsloth/tiny-base-model-bnb-4bit", "/data/models/tiny-base-model", ""]
)
def test_a_base_without_a_bank_knows_its_adapters(lorameta, tiny_bank, tiny_rows, adapter, tmp_path, name):
    """What `finetune` and `refine` write is scored on its own base, whatever it was called where it was trained."""
    base = tmp_path / "tiny-base-model"
    shutil.copytree(tiny_bank / "base", base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": name or str(base)}))
    result = lorameta("evaluate", tiny_rows, "-a", adapter, "--base", base, "--limit", 2, "--json")
    assert result.code == 0, result.err
    assert list(result.json["scores"]) == ["base", "mine"]
    assert result.json["base_model"] == str(base)


def test_another_name_of_the_base_is_said(lorameta, tiny_bank, tiny_rows, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "me/my-copy"}))
    words = ["evaluate", tiny_rows, "-a", adapter, "--bank", tiny_bank, "--limit", 1]
    refused = lorameta(*words)
    assert refused.code == 2
    assert "--base-name me/my-copy" in refused.err
    assert lorameta(*words, "--base-name", "other", "--base-name", "me/my-copy").code == 0
    both = lorameta(*words, "--base", tiny_bank / "base", "--baselines")
    assert both.code == 2
    assert "--baselines" in both.err
