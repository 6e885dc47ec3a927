"""One LoRA run on a random Mistral: what it learns from, what it keeps, and that it leaves the base as it was."""

from __future__ import annotations

import math
import random
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
import transformers  # noqa: E402

from lorameta.base_model.batch import encode_example  # noqa: E402
from lorameta.base_model.load import base_fingerprint  # noqa: E402
from lorameta.data import Example, load_examples  # noqa: E402
from lorameta.errors import BankError, DataError, UsageError  # noqa: E402
from lorameta.training import (  # noqa: E402
    Base,
    LoraTraining,
    Parts,
    engine,
    load_base,
    split_examples,
    train_adapter,
)
from lorameta.training import train as runs  # noqa: E402
from lorameta.training.adapted import lora_on  # noqa: E402
from lorameta.training.rows import batches  # noqa: E402
from tests.conftest import task_rows  # noqa: E402

FAST = LoraTraining(rank=2, alpha=4, targets=("q_proj", "v_proj"), learning_rate=2e-2, epochs=2, batch_size=8)


@pytest.fixture(scope="module")
def base(tiny_bank) -> Base:
    torch.set_num_threads(1)
    return load_base(tiny_bank / "base")


@pytest.fixture(scope="module")
def parts() -> Parts:
    return split_examples(load_examples(task_rows("animal_sound", 40)))


def same(first, second) -> bool:
    return all(
        np.array_equal(pair.A, second.modules[name].A) and np.array_equal(pair.B, second.modules[name].B)
        for name, pair in first.modules.items()
    )


def reference_loss(model, base: Base, examples) -> float:
    """The model's own loss, row by row, with -100 on all that is no answer."""
    total = count = 0
    for example in examples:
        row = encode_example(base.tokenizer, example)
        labels = torch.tensor([row.ids])
        labels[:, : row.answer_start] = -100
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row.ids]), labels=labels).loss.item()
        total, count = total + loss * (len(row.ids) - row.answer_start), count + len(row.ids) - row.answer_start
    return total / count


def test_it_learns_and_says_what_it_measured(base, parts):
    trained = train_adapter(parts, base, FAST)
    assert trained.diverged is None
    assert trained.history[trained.best_epoch] == min(trained.history) < trained.history[0]
    assert trained.steps == FAST.epochs * math.ceil(len(parts.train) / FAST.batch_size)
    assert trained.losses["validation"]["base"] == trained.history[0]
    assert trained.losses["validation"]["adapter"] == pytest.approx(min(trained.history), rel=1e-4)
    assert trained.losses["validation"]["rows"] == len(parts.validation)
    assert trained.losses["test"]["base"] == pytest.approx(reference_loss(base.model, base, parts.test), rel=1e-4)
    assert {pair.rank for pair in trained.adapter.modules.values()} == {2}
    assert {pair.scaling for pair in trained.adapter.modules.values()} == {2.0}


#: What engine 1 gave when it was written: settings -> validation losses, loss of the test rows, norm of the update.
RECORDED = {
    "two factors": (FAST, (6.543563, 5.730090, 5.362271), 5.563514, 1.371649),
    "all layers, dropout": (
        LoraTraining(learning_rate=2e-2, batch_size=8, epochs=3, dropout=0.1, weight_decay=0.01, micro_batch_size=3),
        (6.543563, 3.101677, 2.093547, 2.091600),
        2.101613,
        7.957008,
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_run_gives_the_numbers_of_its_engine(base, parts, name):
    """Banks keep the number of the engine: who changes what it computes must raise it, or a resumed bank is mixed."""
    settings, history, test_loss, norm = RECORDED[name]
    trained = train_adapter(parts, base, settings)
    assert runs.ENGINE == 1
    assert trained.history == pytest.approx(history, rel=2e-3)
    assert trained.losses["test"]["adapter"] == pytest.approx(test_loss, rel=2e-3)
    assert trained.adapter.norm() == pytest.approx(norm, rel=2e-3)


def test_peft_gives_the_same_loss_with_the_saved_adapter(base, parts, tmp_path):
    from peft import PeftModel

    trained = train_adapter(parts, base, FAST)
    trained.adapter.save_pretrained(tmp_path / "adapter")
    fresh = transformers.AutoModelForCausalLM.from_pretrained(base.name)
    model = PeftModel.from_pretrained(fresh, str(tmp_path / "adapter")).eval()
    assert reference_loss(model, base, parts.test) == pytest.approx(trained.losses["test"]["adapter"], rel=1e-4)


def test_the_same_call_gives_the_same_bits_and_another_seed_does_not(base, parts):
    first = train_adapter(parts, base, FAST)
    torch.rand(7)  # whoever draws in between
    assert same(first.adapter, train_adapter(parts, base, FAST).adapter)
    other = LoraTraining(**{**FAST.as_dict(), "targets": FAST.targets, "seed": 1})
    assert not same(first.adapter, train_adapter(parts, base, other).adapter)


def test_every_run_of_a_seed_starts_from_one_A_whatever_its_rows(base):
    barely = LoraTraining(rank=2, targets=("q_proj",), learning_rate=1e-30, epochs=1)
    found = []
    for task in ("animal_sound", "number_word"):
        torch.rand(3)
        rows = split_examples(load_examples(task_rows(task, 20)))
        history = train_adapter(rows, base, barely).history
        assert len(history) == 2
        with lora_on(base, barely) as model:
            found.append({name: p.detach().clone() for name, p in model.named_parameters() if "lora_A" in name})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert all(value.abs().max() > 0 for value in found[0].values())


def test_rows_that_are_held_out_are_never_trained_on(base, parts, monkeypatch):
    seen = []
    backward = engine.backward

    def spy(losses, micro_batches):
        micro_batches = list(micro_batches)
        seen.extend(tuple(row.ids) for micro_batch in micro_batches for row in micro_batch)
        return backward(losses, micro_batches)

    monkeypatch.setattr(engine, "backward", spy)
    train_adapter(parts, base, FAST)
    ids = {
        part: {tuple(encode_example(base.tokenizer, row).ids) for row in getattr(parts, part)}
        for part in parts.counts()
    }
    assert set(seen) == ids["train"]
    assert len(seen) == FAST.epochs * len(parts.train)
    assert not set(seen) & (ids["validation"] | ids["test"])


def test_a_gradient_in_micro_batches_is_that_of_the_whole(base, parts):
    whole = train_adapter(parts, base, FAST).adapter
    micro_batches = train_adapter(parts, base, LoraTraining(**{**vars(FAST), "micro_batch_size": 3})).adapter
    for name, pair in whole.modules.items():
        np.testing.assert_allclose(micro_batches.modules[name].delta(), pair.delta(), atol=2e-4)


@pytest.mark.parametrize(
    ("script", "best"), [([3.0, 2.0, 1.0, 2.5], 2), ([3.0, 2.0, 2.5, 2.5], 1), ([1.0, 2.0, 3.0, 4.0], 0)]
)
def test_the_best_epoch_wins_the_start_included(base, parts, monkeypatch, script, best):
    measured, states = iter(script), []

    def mean_loss(model, losses, micro_batches):
        states.append({name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad})
        return next(measured, 0.0)

    monkeypatch.setattr(engine, "mean_loss", mean_loss)
    monkeypatch.setattr(runs, "mean_loss", mean_loss)
    alone = Parts(parts.train, parts.validation)  # no test rows, so that each measurement is one of the script
    trained = train_adapter(alone, base, LoraTraining(**{**vars(FAST), "epochs": 3}))
    assert trained.best_epoch == best
    for name, pair in trained.adapter.modules.items():
        prefix = f"base_model.model.{name}"
        assert np.array_equal(pair.A, states[best][f"{prefix}.lora_A.default.weight"].numpy())
        assert np.array_equal(pair.B, states[best][f"{prefix}.lora_B.default.weight"].numpy())
    assert (trained.adapter.norm() == 0) == (best == 0)


def test_a_run_that_explodes_is_given_up_and_returns_nothing_worse_than_the_base(base, parts):
    # Of the head, behind which no norm bounds the loss, whatever the kernels round.
    hot = {"targets": ("lm_head",), "learning_rate": 1e4, "epochs": 4, "batch_size": 2}
    trained = train_adapter(parts, base, LoraTraining(**{**vars(FAST), **hot}))
    assert trained.diverged is not None
    assert "step" in trained.diverged
    assert trained.steps < 4 * math.ceil(len(parts.train) / 2)
    assert trained.losses["validation"]["adapter"] <= trained.losses["validation"]["base"]
    assert all(np.isfinite(pair.A).all() and np.isfinite(pair.B).all() for pair in trained.adapter.modules.values())


def test_nan_is_caught_at_its_step(base, parts, monkeypatch):
    monkeypatch.setattr(engine, "backward", lambda *_: math.nan)
    trained = train_adapter(parts, base, FAST)
    assert trained.diverged == "step 1: the loss is nan"
    assert (trained.best_epoch, trained.adapter.norm()) == (0, 0.0)


def test_the_base_is_as_it_was(base, parts):
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    train_adapter(parts, base, FAST)
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    with pytest.raises(UsageError, match="no adapter can be put"):
        train_adapter(parts, base, LoraTraining(targets=("nothing",)))
    assert before.keys() == base.model.state_dict().keys()


def test_bfloat16_is_what_is_measured_and_returned(base, parts):
    trained = train_adapter(parts, base, LoraTraining(**{**vars(FAST), "dtype": "bfloat16"}))
    for pair in trained.adapter.modules.values():
        assert np.array_equal(torch.from_numpy(pair.B).to(torch.bfloat16).float().numpy(), pair.B)


def test_progress_ends_with_all_tokens(base, parts):
    calls = []
    trained = train_adapter(parts, base, FAST, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) == trained.steps
    assert calls[-1] == (FAST.epochs * trained.tokens,) * 2
    assert trained.tokens == sum(len(encode_example(base.tokenizer, row).ids) for row in parts.train)


def test_long_rows_are_shortened_and_counted(base, parts):
    trained = train_adapter(parts, base, LoraTraining(**{**vars(FAST), "max_length": 12, "epochs": 1}))
    assert trained.shortened == sum(parts.counts().values())
    assert trained.tokens == 12 * len(parts.train)


def test_rows_without_answers_and_empty_parts_are_refused(base, parts):
    with pytest.raises(DataError, match="1 of the 1 validation rows have no answer"):
        train_adapter(Parts(parts.train, (Example("prompt"),)), base, FAST)
    with pytest.raises(DataError, match="one of the two is empty"):
        train_adapter(Parts(parts.train, ()), base, FAST)


ARCHITECTURES = {
    "Llama": {},
    "Qwen2": {},
    "Gemma": {"head_dim": 8},
    "Phi": {},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_linear_layers_of_other_architectures(base, parts, name):
    config = getattr(transformers, f"{name}Config")(
        vocab_size=base.model.config.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=128, pad_token_id=0,
        **ARCHITECTURES[name],
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval().requires_grad_(False)
    trained = train_adapter(parts, Base(model, base.tokenizer, "random"), LoraTraining(epochs=1, learning_rate=1e-2))
    assert trained.history[1] < trained.history[0]
    head = {id(model.get_output_embeddings()), id(model.lm_head)}
    linear = {name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and id(m) not in head}
    assert set(trained.adapter.modules) == linear


def test_batches_are_a_partition_of_rows_of_like_length():
    lengths = random.Random(3).choices(range(1, 90), k=203)
    found = batches(lengths, 16, random.Random(0))
    assert sorted(i for batch in found for i in batch) == list(range(203))
    assert all(len(batch) <= 16 for batch in found)
    spread = np.mean([max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in found])
    assert spread < (max(lengths) - min(lengths)) / 3


def test_fingerprints_tell_bases_apart(tiny_bank, tmp_path):
    copy = shutil.copytree(tiny_bank / "base", tmp_path / "copy")
    assert base_fingerprint(copy) == base_fingerprint(tiny_bank / "base")
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert base_fingerprint(copy) != base_fingerprint(tiny_bank / "base")
    with pytest.raises(BankError, match=r"no config\.json"):
        base_fingerprint(tmp_path)
