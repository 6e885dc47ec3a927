"""A bank from a folder of datasets: whole, resumed, with failures, on a cluster; always the same bank."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank, check_directory
from lorameta.bank_builder.train import BankProgress
from lorameta.bank_builder.train import run as run_module
from lorameta.bank_builder.train.worker import Job, Outcome, train_task
from lorameta.data import load_examples
from lorameta.errors import UsageError
from lorameta.evaluate import Scorer
from lorameta.generate import generate_adapter
from lorameta.training import LoraTraining, split_examples
from tests.bank_builder.train.training import NAMES, SETTINGS, content, run, trained_ids
from tests.conftest import task_rows


def test_the_bank_opens_checks_and_generates(made, tasks, tmp_path):
    bank = AdapterBank.open(made)
    assert bank.ids == NAMES
    assert bank.name == "trained"
    assert check_directory(made).problems == []
    adapter = generate_adapter(tasks / "animal_sound.jsonl", bank=bank, operator="normalized", fit=False)
    assert max(adapter.weights, key=adapter.weights.get) == "animal_sound"
    assert Adapter.from_pretrained(adapter.save_pretrained(tmp_path / "out")).rank == 2


def test_the_records_tell_what_was_trained_on_what(made, tasks, base):
    bank = AdapterBank.open(made)
    record = bank.records["animal_sound"]
    assert (record.family, record.licence, record.description) == ("facts", "CC0-1.0", "Say it.")
    assert (record.rank, record.alpha, record.targets) == (2, 4.0, ("q_proj", "v_proj"))
    parts = split_examples(load_examples(task_rows("animal_sound", 30)))
    assert record.rows == parts.counts()
    assert record.training["settings"]["learning_rate"] == 2e-2
    assert len(record.training["validation_loss"]) == SETTINGS.epochs + 1
    losses = record.scores["validation"]
    assert losses["adapter"]["loss"] < losses["base"]["loss"]
    assert bank.base_model == str(base)


def test_base_and_adapter_answered_the_test_rows(made, tasks, base):
    """What the records say is what a scorer that loads base and adapter from their files finds."""
    scorer = Scorer(base)
    for name, record in AdapterBank.open(made).records.items():
        rows = split_examples(load_examples(tasks / f"{name}.jsonl")).test[:64]
        wanted = {"base": scorer.score(rows), "adapter": scorer.score(rows, made / record.path)}
        for who, scores in wanted.items():
            found = record.scores["test"][who]
            assert (found["rows"], found["exact_match"]) == (len(rows), pytest.approx(scores.exact_match))
            assert found["loss"] == pytest.approx(scores.loss, rel=1e-3)
            assert found["rouge_l"] == pytest.approx(scores.rouge_l, abs=1e-4)


def test_no_answers_where_none_are_asked_for(tasks, base, tmp_path):
    output = tmp_path / "bank"
    assert run(tasks, base, output, score_rows=0).failed == {}
    record = AdapterBank.open(output).records["animal_sound"]
    assert set(record.scores["test"]["adapter"]) == {"rows", "loss"}
    with pytest.raises(UsageError, match="--score-rows is -1"):
        run(tasks, base, tmp_path / "other", score_rows=-1)


def test_summaries_are_those_of_the_training_rows_alone(made, base):
    from lorameta.encoder import TokenEncoder

    summaries = AdapterBank.open(made).summaries
    parts = split_examples(load_examples(task_rows("number_word", 30)))
    expected = TokenEncoder(base).encode(parts.train)
    assert np.array_equal(summaries["number_word"].token_counts, expected.token_counts)
    assert summaries["number_word"].rows == len(parts.train)


def test_adapters_of_one_bank_start_from_one_A(made):
    """B is zero at the start, so that A moves little in few steps: all stay close to where they began."""
    bank = AdapterBank.open(made)
    first, second = (bank[name].modules for name in NAMES[:2])
    for module, pair in first.items():
        a, b = pair.A.ravel(), second[module].A.ravel()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.8


def test_the_order_of_the_rows_and_the_format_change_nothing(made, tasks, base, tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [json.loads(line) for line in (tasks / "animal_sound.jsonl").read_text().splitlines()]
    (folder / "animal_sound.json").write_text(json.dumps(rows[::-1]))
    run(folder, base, tmp_path / "bank")
    found, expected = AdapterBank.open(tmp_path / "bank"), AdapterBank.open(made)
    assert found.records["animal_sound"].sha256 == expected.records["animal_sound"].sha256


def test_a_bad_task_is_reported_and_the_others_make_the_bank(made, tasks, base, tmp_path, monkeypatch):
    folder = shutil.copytree(tasks, tmp_path / "tasks")
    (folder / "broken.jsonl").write_text('{"input": "a"}\n{"input": "b", "output": "c"}\n')
    real = train_task

    def diverging(job: Job) -> Outcome:
        return Outcome(job.id, error="the training diverged at step 3") if job.id == "number_word" else real(job)

    monkeypatch.setattr(run_module, "train_task", diverging)
    found = run(folder, base, tmp_path / "bank")
    assert set(found.failed) == {"broken", "number_word"}
    assert "broken.jsonl:1" in found.failed["broken"]
    bank = AdapterBank.open(tmp_path / "bank")
    assert bank.ids == ("animal_sound", "thing_colour")
    assert {entry["id"] for entry in bank.manifest.left_out} == {"broken", "number_word"}
    monkeypatch.undo()
    (folder / "broken.jsonl").unlink()
    assert run(folder, base, tmp_path / "bank").plan.missing == ("number_word",)
    assert content(tmp_path / "bank").keys() >= {"bank.json"}
    assert AdapterBank.open(tmp_path / "bank").content_hash == AdapterBank.open(made).content_hash


def test_divergence_is_an_error_of_the_task(base, tasks):
    parts = split_examples(load_examples(tasks / "animal_sound.jsonl"))
    settings = LoraTraining(targets=("lm_head",), learning_rate=1e4, epochs=4, batch_size=2)
    from lorameta.base_model.load import base_fingerprint

    found = train_task(Job("x", parts, str(base), None, base_fingerprint(base), str(base), settings, 1))
    assert "diverged at step" in found.error
    assert "try a smaller one" in found.error
    assert found.files == {}


def test_an_adapter_that_does_not_beat_the_base_is_left_out_unless_all_are_kept(tasks, base, tmp_path, monkeypatch):
    barely = LoraTraining(rank=2, targets=("q_proj",), learning_rate=1e-30, epochs=1)
    found = run(tasks, base, tmp_path / "bank", settings=barely)
    assert found.bank is None
    assert set(found.left_out) == set(NAMES)
    assert all("base" in why for why in found.left_out.values())
    assert not (tmp_path / "bank" / "bank.json").exists()
    seen = trained_ids(monkeypatch)
    found = run(tasks, base, tmp_path / "bank", settings=barely, keep_all=True)
    assert seen == []
    assert AdapterBank.open(found.bank).ids == NAMES


def test_directories_of_others_are_left_alone(tasks, base, tiny_bank, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        run(tasks, base, tmp_path / "full")
    copy = shutil.copytree(tiny_bank, tmp_path / "bank")
    with pytest.raises(UsageError, match="not trained there"):
        run(tasks, base, copy)
    with pytest.raises(UsageError, match="is a file"):
        run(tasks, base, tmp_path / "full" / "thesis.txt")


def test_a_base_inside_the_bank_travels_with_it(tasks, base, tmp_path):
    root = tmp_path / "bank"
    shutil.copytree(base, root / "base")
    run(tasks, root / "base", root)
    moved = root.rename(tmp_path / "moved")
    bank = AdapterBank.open(moved)
    assert bank.base_model == str(moved / "base")
    assert bank.manifest.base.sha256.keys() >= {"model.safetensors"}
    assert check_directory(moved).problems == []


def test_progress_counts_and_estimates(tasks, base, tmp_path):
    seen: list[BankProgress] = []
    run(tasks, base, tmp_path / "bank", report=seen.append)
    fresh = [progress for progress in seen if progress.fresh]
    assert [progress.done for progress in fresh] == [1, 2, 3]
    assert {progress.last for progress in fresh} == set(NAMES)
    assert fresh[0].left > 0
    assert fresh[-1].left == 0
    assert all(progress.losses[1] < progress.losses[0] for progress in fresh)


def test_a_plan_can_be_refused_and_leaves_nothing(tasks, base, tmp_path):
    plans = []
    assert run(tasks, base, tmp_path / "bank", planned=lambda plan: plans.append(plan)) is None
    (plan,) = plans
    assert plan.missing == NAMES
    assert plan.rows == sum(len(split_examples(load_examples(task_rows(name, 30))).train) for name in NAMES)
    assert not (tmp_path / "bank").exists()


@pytest.mark.slow
def test_sentences_are_summarised_when_asked_for_without_training(made, tasks, base, tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    copy = shutil.copytree(made, tmp_path / "bank")
    seen = trained_ids(monkeypatch)
    run(tasks, base, copy, sentences=True)
    assert seen == []
    bank = AdapterBank.open(copy)
    assert bank.summaries.has("sentence")
    assert bank.summaries.has("tokens")
    assert bank.manifest.encoders["sentence"]["rows_at_most"] == 256
    assert check_directory(copy).problems == []
    assert generate_adapter(tasks / "number_word.jsonl", bank=bank, distance="gaussian").weights


@pytest.mark.slow
def test_two_processes_make_the_same_bank(made, tasks, base, tmp_path):
    run(tasks, base, tmp_path / "bank", jobs=2)
    assert content(tmp_path / "bank") == content(made)


def test_adapters_of_one_bank_share_a_computed_a(tasks, base, tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("\n<|end|>\n".join(row["input"] for row in task_rows("opposite", 12)))
    settings = replace(SETTINGS, freeze_a=True, init_a="principal", dtype="float32", epochs=1, share_prefix=True)
    with pytest.raises(UsageError, match="--calibration"):
        run(tasks, base, tmp_path / "bank", settings=settings)
    with pytest.raises(UsageError, match="--calibration"):
        run(tasks, base, tmp_path / "bank", calibration=[text])
    options = {"settings": settings, "calibration": [text], "keep_all": True, "score_rows": 0}
    run(tasks, base, tmp_path / "bank", **options)
    bank = AdapterBank.open(tmp_path / "bank")
    first, *others = [bank[id].modules for id in bank.ids]
    for other in others:
        assert all(np.array_equal(pair.A, other[name].A) for name, pair in first.items())
        assert not all(np.array_equal(pair.B, other[name].B) for name, pair in first.items())
    seen = trained_ids(monkeypatch)
    run(tasks, base, tmp_path / "bank", **options)
    assert seen == []
    (tmp_path / "bank" / ".lorameta" / "train" / "initial_a.safetensors").write_bytes(b"damaged")
    run(tasks, base, tmp_path / "bank", **options)  # another A could differ in its last bits: all are trained again
    assert sorted(seen) == sorted(NAMES)
