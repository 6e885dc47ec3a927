"""A refinement from start to end: what it returns, what it never does, and that a kill changes nothing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import torch
import transformers

from lorameta.adapter import Adapter
from lorameta.base_model.batch import collate, encode_example
from lorameta.base_model.load import cast
from lorameta.data import load_examples
from lorameta.errors import BankError, DataError, UsageError
from lorameta.training import Base, RefineSettings, engine, finetune, load_base, prepared, refine
from lorameta.training.adapted import lora_on
from lorameta.training.engine import backward, losses_of
from lorameta.training.measure import checkpointed, without_cache
from lorameta.training.rows import cut
from tests.conftest import task_rows
from tests.training.refining import FAST, ROWS, same


def loss_of(model, tokenizer, rows) -> float:
    """The model's own loss, row by row."""
    total = count = 0
    for example in load_examples(rows):
        row = encode_example(tokenizer, example)
        labels = torch.tensor([row.ids])
        labels[:, : row.answer_start] = -100
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row.ids]), labels=labels).loss.item()
        total, count = total + loss * (len(row.ids) - row.answer_start), count + len(row.ids) - row.answer_start
    return total / count


def test_it_is_better_than_its_start_and_peft_gives_the_loss_that_it_reports(where, given, tmp_path):
    from peft import PeftModel

    held = task_rows("animal_sound", 48)[40:]
    done = refine(given, ROWS, base=where, settings=FAST, validation=held)
    about = done.report["refinement"]
    losses = dict(map(tuple, about["history"]))
    assert about["best_step"] == min(losses, key=losses.get)
    assert about["loss"] == pytest.approx(min(losses.values()), abs=1e-5)
    assert about["loss"] < about["loss_at_start"]
    assert about["steps"] == 20
    assert about["held_out"] == 8
    for adapter, expected in ((given, about["loss_at_start"]), (done, about["loss"])):
        directory = adapter.save_pretrained(tmp_path / str(expected))
        base = load_base(where)
        model = PeftModel.from_pretrained(base.model, str(directory)).eval()
        assert loss_of(model, base.tokenizer, held) == pytest.approx(expected, rel=1e-4)
    assert same(given, Adapter.from_pretrained(tmp_path / str(about["loss_at_start"])))


def test_from_scratch_begins_at_the_base(where):
    done = finetune(ROWS, where, settings=FAST)
    base = load_base(where)
    about = done.report["refinement"]
    with prepared(ROWS, where, FAST) as job:
        held = job.rows[1]
        ids = [collate([row], 0) for row in held]
    assert about["loss"] < about["loss_at_start"]
    total = count = 0
    for row, (tokens, _, answers) in zip(held, ids, strict=True):
        labels = tokens.masked_fill(~answers, -100)
        with torch.no_grad():
            total += base.model(tokens, labels=labels).loss.item() * int(answers[:, 1:].sum())
        count += len(row.ids) - row.answer_start
    assert total / count == pytest.approx(about["loss_at_start"], rel=1e-4)


def test_the_same_call_gives_the_same_bits(where, given):
    first, second = (refine(given, ROWS, base=where, settings=FAST) for _ in range(2))
    assert same(first, second)
    assert not same(first, refine(given, ROWS, base=where, settings=FAST | {"seed": 1}))


def test_when_no_step_helps_the_very_numbers_that_were_given_come_back(where, given):
    done = refine(given, ROWS, base=where, settings=FAST | {"learning_rate": 1e-30})
    assert done.report["refinement"]["best_step"] == 0
    for name, pair in given.modules.items():
        assert np.array_equal(done.modules[name].A, pair.A)
        assert np.array_equal(done.modules[name].B, pair.B)


@pytest.mark.parametrize(
    ("script", "best"), [([3.0, 2.0, 1.0, 2.5], 2), ([3.0, 2.0, 2.5, 2.5], 1), ([1.0, 2.0, 3.0, 4.0], 0)]
)
def test_the_best_state_wins_the_start_included(where, given, monkeypatch, script, best):
    measured, states = iter(script), []

    def mean_loss(model, losses, micro_batches):
        states.append({name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad})
        return next(measured)

    monkeypatch.setattr(engine, "mean_loss", mean_loss)
    with prepared(ROWS, where, FAST | {"steps": 3}, start=given) as job:
        job.plan = replace(job.plan, evaluations=3)
        done = job.run()
    assert [loss for _, loss in done.report["refinement"]["history"]] == script
    assert done.report["refinement"]["best_step"] == best
    if best:
        for name, pair in done.modules.items():
            kept = states[best][f"base_model.model.{name}.lora_B.default.weight"]
            assert np.array_equal(pair.B, kept.numpy())
    else:
        assert same(done, given)


@pytest.mark.parametrize("rank", [2, 9])
def test_another_rank(where, given, rank):
    done = refine(given, ROWS, base=where, settings=FAST | {"rank": rank})
    assert {pair.rank for pair in done.modules.values()} == {rank}
    assert done.report["refinement"]["loss"] <= done.report["refinement"]["loss_at_start"]


def test_divergence_is_caught_and_what_is_returned_is_not_worse(where, given):
    done = refine(given, ROWS, base=where, settings=FAST | {"learning_rate": 1e4, "batch_size": 2, "steps": 60})
    about = done.report["refinement"]
    assert "step" in about["diverged"]
    assert about["steps"] < 60
    assert about["loss"] <= about["loss_at_start"]
    assert all(np.isfinite(pair.A).all() and np.isfinite(pair.B).all() for pair in done.modules.values())


def test_micro_batches_and_checkpointing_have_the_gradient_of_the_whole(where):
    base = load_base(where)
    rows = [encode_example(base.tokenizer, example) for example in load_examples(ROWS)]
    found = []
    with without_cache(base.model), lora_on(base, RefineSettings().training(rank=2)) as model:
        torch.nn.init.normal_(next(p for name, p in model.named_parameters() if "lora_B" in name))
        for tokens, again in ((10_000, False), (60, False), (10_000, True)):
            model.train()
            with checkpointed(base.model) if again else nullcontext():
                loss = backward(losses_of(model, 0), cut(rows, range(16), tokens=tokens))
            found.append((loss, [p.grad.clone() for p in model.parameters() if p.requires_grad]))
            model.zero_grad(set_to_none=True)
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_bfloat16_keeps_the_frequencies_of_positions(where):
    base = load_base(where)
    before = {name: value.clone() for name, value in base.model.named_buffers()}
    cast(base.model, "bfloat16")
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(before[name], value) for name, value in base.model.named_buffers())
    done = finetune(ROWS, where, settings=FAST | {"precision": "bfloat16"})
    assert done.report["refinement"]["precision"] == "bfloat16"
    assert done.report["refinement"]["loss"] < done.report["refinement"]["loss_at_start"]


ARCHITECTURES = {
    "Mistral": {"num_key_value_heads": 2},
    "Llama": {"num_key_value_heads": 2},
    "Qwen2": {"num_key_value_heads": 2},
    "Gemma": {"head_dim": 8, "num_key_value_heads": 1},
    "Phi": {"num_key_value_heads": 4},
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_small_models_of_each_family_train_and_their_adapters_load(where, tmp_path, name, precision):
    from peft import PeftModel

    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2, **ARCHITECTURES[name],
    )  # fmt: skip
    torch.manual_seed(0)
    getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = FAST | {"precision": precision, "steps": 8}
    first = finetune(ROWS, tmp_path / "base", settings=settings)
    assert first.report["refinement"]["loss"] < first.report["refinement"]["loss_at_start"]
    directory = first.save_pretrained(tmp_path / "adapter")
    second = refine(directory, ROWS, settings=settings | {"learning_rate": 5e-3})
    about = second.report["refinement"]
    assert about["loss_at_start"] == pytest.approx(first.report["refinement"]["loss"], rel=0.02)
    second.save_pretrained(tmp_path / "refined")
    fresh = load_base(tmp_path / "base", dtype=precision)
    model = PeftModel.from_pretrained(fresh.model, str(tmp_path / "refined")).eval()
    with prepared(ROWS, tmp_path / "base", settings) as job:
        held = [tokenizer.decode(row.ids) for row in job.rows[1]]
        rows = [collate([row], 0) for row in job.rows[1]]
    assert held
    total = count = 0.0
    for ids, _, answers in rows:
        with torch.no_grad():
            loss = model(ids, labels=ids.masked_fill(~answers, -100)).loss.item()
        total, count = total + loss * int(answers[:, 1:].sum()), count + int(answers[:, 1:].sum())
    assert total / count == pytest.approx(about["loss"], rel=1e-3 if precision == "float32" else 0.03)


def test_wrong_calls_are_refused(where, given):
    with pytest.raises(UsageError, match="no setting speed"):
        refine(given, ROWS, base=where, settings={"speed": 3})
    with pytest.raises(DataError, match="different row"):
        refine(given, ROWS[:1], base=where)
    with pytest.raises(DataError, match="no row to learn from"):
        refine(given, ROWS[:3], base=where, validation=ROWS)
    with pytest.raises(BankError, match="not among the targets k_proj"):
        refine(given, ROWS, base=where, settings={"targets": ["k_proj"]})
    with pytest.raises(UsageError, match="has no linear layer nothing"):
        finetune(ROWS, where, settings={"targets": ["nothing"]})
    with pytest.raises(BankError):
        finetune(ROWS, "/nowhere/at/all")


def test_a_base_that_is_in_memory_is_as_it_was(where, given):
    base = load_base(where)
    assert isinstance(base, Base)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    refine(given, ROWS, base=base, settings=FAST)
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert base.model.config.use_cache
