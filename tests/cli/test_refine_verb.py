"""`lorameta refine`, `lorameta finetune`, `lorameta generate --refine-steps`: what they write, say and refuse."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.adapter import Adapter
from lorameta.generate import generate_adapter
from lorameta.training import refine
from tests.conftest import task_rows

SHORT = ["--steps", 6, "--batch-size", 8, "--learning-rate", 0.02, "--precision", "float32", "--threads", 1]
SETTINGS = {"steps": 6, "batch_size": 8, "learning_rate": 0.02, "precision": "float32", "threads": 1}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in task_rows("animal_sound", 40)), encoding="utf-8")
    return path


@pytest.fixture
def given(tiny_bank, tmp_path):
    return shutil.copytree(tiny_bank / "adapters" / "opposite", tmp_path / "given")


def same(first: Adapter, second: Adapter) -> bool:
    return all(np.allclose(p.delta(), second.modules[name].delta(), atol=1e-7) for name, p in first.modules.items())


def test_refine_writes_what_the_function_makes_and_leaves_the_given_alone(lorameta, tiny_bank, data, given, tmp_path):
    before = {path.name: path.read_bytes() for path in given.iterdir()}
    out, base = tmp_path / "out", tiny_bank / "base"
    result = lorameta("refine", given, "--data", data, "-o", out, "--base", base, *SHORT)
    assert result.code == 0, result.err
    expected = refine(given, data, base=base, settings=SETTINGS)
    assert same(Adapter.from_pretrained(out), expected)
    assert {path.name: path.read_bytes() for path in given.iterdir()} == before
    about = expected.report["refinement"]
    assert f"loss {about['loss_at_start']:.4f} → {about['loss']:.4f} on 10 rows" in result.out
    for label in ("Rows ", "Steps ", "Memory ", "Time "):
        assert label in result.err
    assert "## How it was trained" in (out / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "given", "out"]


def test_upper_layers_alone(lorameta, tiny_bank, data, given, tmp_path):
    words = ["-d", data, "-o", tmp_path / "out", "--base", tiny_bank / "base", *SHORT, "--top-layers", 1]
    result = lorameta("refine", given, *words)
    assert result.code == 0, result.err
    assert "Layers        the 1 uppermost of 2; what the others make of a row is computed once and kept" in result.err
    settings = SETTINGS | {"top_layers": 1}
    assert same(Adapter.from_pretrained(tmp_path / "out"), refine(given, data, base=words[5], settings=settings))
    assert lorameta("refine", given, *words[:-1], 3, "--force").err.endswith(
        "base has 2 layers; 3 of them cannot be adapted (--top-layers)\n"
    )


def test_the_given_adapter_is_never_overwritten(lorameta, tiny_bank, data, given):
    before = {path.name: path.read_bytes() for path in given.iterdir()}
    for out in (given, given / ".." / "given"):
        result = lorameta("refine", given, "-d", data, "-o", out, "--base", tiny_bank / "base", "--force")
        assert result.code == 2
        assert "never overwritten" in result.err
    assert {path.name: path.read_bytes() for path in given.iterdir()} == before


def test_another_adapter_is_replaced_only_if_asked(lorameta, tiny_bank, data, given, tmp_path):
    out = shutil.copytree(given, tmp_path / "out")
    words = ["refine", given, "-d", data, "-o", out, "--base", tiny_bank / "base", *SHORT]
    refused = lorameta(*words)
    assert refused.code == 2
    assert "--force" in refused.err
    assert lorameta(*words, "--force").code == 0


def test_a_dry_run_says_it_all_and_writes_nothing(lorameta, tiny_bank, data, given, tmp_path):
    words = ["-d", data, "-o", tmp_path / "out", "--base", tiny_bank / "base", *SHORT, "--dry-run"]
    before = sorted(tmp_path.iterdir())
    result = lorameta("refine", given, *words)
    assert result.code == 0, result.err
    for label in ("30 to train on, 10 held out", "6 steps of 8 rows", "needed", "present", "tokens per second"):
        assert label in result.out
    plan = lorameta("finetune", *words, "--json").json["plan"]
    assert (plan["rows"], plan["held_out"], plan["steps"], plan["start"]) == (30, 10, 6, "scratch")
    assert plan["memory"] < plan["available"]
    assert plan["seconds"] > 0
    assert sorted(tmp_path.iterdir()) == before


def test_finetune_writes_an_adapter_a_log_and_json(lorameta, tiny_bank, data, tmp_path):
    words = ["-d", data, "-b", tiny_bank / "base", "-o", tmp_path / "out", *SHORT, "--rank", 3, "--alpha", 5]
    result = lorameta("finetune", *words, "--targets", "q_proj, v_proj", "--log", tmp_path / "log.jsonl", "--json")
    assert result.code == 0, result.err
    about = result.json["refinement"]
    assert about["loss"] < about["loss_at_start"]
    assert (about["rank"], about["alpha"], about["targets"]) == (3, 5.0, ["q_proj", "v_proj"])
    adapter = Adapter.from_pretrained(tmp_path / "out")
    assert {name.rpartition(".")[2] for name in adapter.modules} == {"q_proj", "v_proj"}
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "plan"
    assert events[-1]["event"] == "end"
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    for key in ("loss", "rate", "tokens", "tokens_per_second", "memory_mb", "left"):
        assert all(event[key] is not None for event in steps)
    measured = [event["validation_loss"] for event in events if event["event"] == "evaluation"]
    assert measured == pytest.approx([loss for _, loss in about["history"]], abs=1e-5)


def test_divergence_is_said_and_ends_with_1_where_nothing_was_learned(lorameta, tiny_bank, data, tmp_path):
    words = ["-d", data, "-b", tiny_bank / "base", "-o", tmp_path / "out", "--steps", 40, "--batch-size", 2]
    words += ["--targets", "lm_head", "--threads", 1, "--precision", "float32"]
    result = lorameta("finetune", *words, "--learning-rate", 1e4)
    assert "diverged at step" in result.err
    assert result.code == (1 if "the start was kept" in result.out else 0)


def test_generate_refines_what_it_mixed(lorameta, tiny_bank, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ("--bank", tiny_bank, "--operator", "normalized", "--refine-steps", 6, "--json")
    result = lorameta("generate", data, "-o", out, *words)
    assert result.code == 0, result.err
    about = result.json["refinement"]
    assert about["steps"] == 6
    assert about["loss"] <= about["loss_at_start"]
    assert sum(result.json["weights"].values()) == pytest.approx(1)
    text = (out / "README.md").read_text()
    assert "then trained further" in text
    assert "- start: the mixture above" in text
    mixed = generate_adapter(data, bank=tiny_bank, operator="normalized")
    assert not same(Adapter.from_pretrained(out), mixed)
    rows = iter(task_rows("animal_sound", 40))
    again = generate_adapter(rows, bank=tiny_bank, operator="normalized", refine={"steps": 6})
    assert again.report["refinement"]["loss_at_start"] == pytest.approx(about["loss_at_start"], rel=0.02)
    assert again.weights == pytest.approx(mixed.weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "out"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--minutes", 0], "minutes is 0"),
        (["--precision", "float16"], "precision is 'float16'"),
        (["--targets", "nothing"], "no linear layer nothing"),
        (["--dropout", 1], "dropout is 1"),
    ],
)
def test_wrong_options_are_refused(lorameta, tiny_bank, data, tmp_path, words, says):
    result = lorameta("finetune", "-d", data, "-b", tiny_bank / "base", "-o", tmp_path / "out", *words)
    assert result.code == 2
    assert says in result.err
    assert not (tmp_path / "out").exists()
