"""A refinement from start to end: what it returns, what it never does, and that a kill changes nothing."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
import transformers  # noqa: E402

from lorameta.adapter import Adapter  # noqa: E402
from lorameta.base_model.batch import collate, encode_example  # noqa: E402
from lorameta.base_model.load import cast  # noqa: E402
from lorameta.data import load_examples  # noqa: E402
from lorameta.errors import BankError, DataError, LorametaError, UsageError  # noqa: E402
from lorameta.training import (  # noqa: E402
    Base,
    RefineSettings,
    engine,
    finetune,
    load_base,
    loop,
    memory_plan,
    prepared,
    refine,
)
from lorameta.training.adapted import lora_on  # noqa: E402
from lorameta.training.engine import backward, losses_of  # noqa: E402
from lorameta.training.measure import checkpointed, kept_bytes, without_cache  # noqa: E402
from lorameta.training.rows import cut  # noqa: E402
from tests.conftest import task_rows  # noqa: E402

ROWS = task_rows("animal_sound", 40)
FAST = {"steps": 20, "learning_rate": 2e-2, "batch_size": 8, "rank": 4, "precision": "float32", "threads": 1}


@pytest.fixture(scope="module")
def given(tiny_bank) -> Adapter:
    return Adapter.from_pretrained(tiny_bank / "adapters" / "thing_colour")


@pytest.fixture(scope="module")
def where(tiny_bank) -> str:
    return str(tiny_bank / "base")


def same(first: Adapter, second: Adapter) -> bool:
    return first.modules.keys() == second.modules.keys() and all(
        np.array_equal(pair.delta(), second.modules[name].delta()) for name, pair in first.modules.items()
    )


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


def test_kept_bytes_grow_with_the_layers(where):
    base = load_base(where)
    row = encode_example(base.tokenizer, load_examples(ROWS)[0])
    with without_cache(base.model), lora_on(base, RefineSettings().training(rank=2)) as model:
        model.train()
        kept = kept_bytes(model, row, 0)
    width = base.model.config.hidden_size
    assert 4 * width * 2 * 5 < kept < 4 * width * 2 * 100  # two layers, some states of this width in each


def test_bfloat16_keeps_the_frequencies_of_positions(where):
    base = load_base(where)
    before = {name: value.clone() for name, value in base.model.named_buffers()}
    cast(base.model, "bfloat16")
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(before[name], value) for name, value in base.model.named_buffers())
    done = finetune(ROWS, where, settings=FAST | {"precision": "bfloat16"})
    assert done.report["refinement"]["precision"] == "bfloat16"
    assert done.report["refinement"]["loss"] < done.report["refinement"]["loss_at_start"]


KILLED = """
    import os, signal, sys
    import torch
    torch.set_num_threads(1)
    from lorameta.training import finetune
    import json
    folder, base, rows, kill = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
    settings = json.loads(sys.argv[5])
    def report(progress):
        if progress.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    done = finetune(rows, base, settings=settings, checkpoint=folder + "/state", report=report)
    done.save_pretrained(folder + "/out")
    print(json.dumps(done.report["refinement"]["history"]))
"""


@pytest.mark.parametrize("kill", [2, 11])
def test_killed_and_resumed_it_ends_with_the_same_weights(where, tmp_path, kill):
    settings = FAST | {"dropout": 0.2, "save_steps": 4}
    whole = finetune(ROWS, where, settings=settings)
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), where, json.dumps(ROWS)]
    killed = subprocess.run([*words, str(kill), json.dumps(settings)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "state" / "run.json").is_file()
    assert (tmp_path / "state" / "state.safetensors").is_file() == (kill > 4)
    log = tmp_path / "log.jsonl"
    resumed = finetune(ROWS, where, settings=settings, checkpoint=tmp_path / "state", log=log)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == list(range(1 if kill == 2 else 9, 21))
    assert resumed.report["refinement"]["history"] == whole.report["refinement"]["history"]
    for name, pair in whole.modules.items():
        assert np.array_equal(pair.A, resumed.modules[name].A)
        assert np.array_equal(pair.B, resumed.modules[name].B)
    assert not (tmp_path / "state").exists()


def test_a_run_with_other_settings_is_not_gone_on_with(where, tmp_path):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 6:
            raise Stop

    settings = FAST | {"save_steps": 5}
    with pytest.raises(Stop):
        finetune(ROWS, where, settings=settings, checkpoint=tmp_path / "state", report=stop)
    with pytest.raises(UsageError, match="--fresh"):
        finetune(ROWS, where, settings=settings | {"seed": 3}, checkpoint=tmp_path / "state")
    with pytest.raises(UsageError, match="--fresh"):
        finetune(ROWS[:-1], where, settings=settings, checkpoint=tmp_path / "state")
    with prepared(ROWS, where, settings, checkpoint=tmp_path / "state") as job:
        assert job.plan.resumed_at == 5
    with prepared(ROWS, where, settings, checkpoint=tmp_path / "state", fresh=True) as job:
        assert job.plan.resumed_at == 0


def test_a_damaged_checkpoint_is_named(where, tmp_path):
    settings = FAST | {"save_steps": 5}
    with prepared(ROWS, where, settings, checkpoint=tmp_path / "state") as job:
        job.run()
    (tmp_path / "state" / "state.safetensors").write_bytes(b"\x08" * 40)
    with pytest.raises(UsageError, match=r"state\.safetensors cannot be read"):
        finetune(ROWS, where, settings=settings, checkpoint=tmp_path / "state")


def test_two_runs_do_not_write_to_one_place(where, tmp_path):
    with prepared(ROWS, where, FAST, checkpoint=tmp_path / "state"):
        code = (
            "import sys, json\nfrom lorameta.training import finetune\n"
            "finetune(json.loads(sys.argv[2]), sys.argv[1], settings=json.loads(sys.argv[3]), checkpoint=sys.argv[4])"
        )
        words = [sys.executable, "-c", code, where, json.dumps(ROWS), json.dumps(FAST), str(tmp_path / "state")]
        other = subprocess.run(words, capture_output=True, text=True)
    assert other.returncode != 0
    assert "another process is at work" in other.stderr


def test_a_time_budget_is_kept_within_one_step(where, given, monkeypatch):
    """By a clock that moves by a tenth of a second a step and two a measurement, however busy the machine is."""
    budget, clock = 3.0, [0.0]

    def takes(name, seconds):
        method = getattr(engine.Engine, name)

        def timed(self, *arguments):
            clock[0] += seconds
            return method(self, *arguments)

        monkeypatch.setattr(engine.Engine, name, timed)

    with prepared(ROWS, where, FAST | {"steps": None, "minutes": budget / 60}, start=given) as job:
        assert job.plan.steps is None
        job.spent = 0.5
        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
        takes("train", 0.1)
        takes("measure", 0.2)
        about = job.run().report["refinement"]
    assert about["seconds"] == pytest.approx(0.5 + clock[0])
    assert budget - 0.3 < about["seconds"] <= budget + 0.1
    assert about["steps"] == round((clock[0] - 0.2 * len(about["history"])) / 0.1) > 5


def test_no_time_for_a_step_is_refused(where):
    with pytest.raises(LorametaError, match=r"minutes are too few: a step takes"):
        finetune(ROWS, where, settings=FAST | {"steps": None, "minutes": 1e-7})


def test_the_plan_says_what_will_happen(where, given):
    with prepared(ROWS, where, FAST | {"steps": None, "epochs": 2}, start=given) as job:
        plan = job.plan
        done = job.run()
    assert (plan.rows, plan.held_out) == (30, 10)
    assert plan.steps == plan.expected_steps == 2 * math.ceil(30 / 8) == done.report["refinement"]["steps"]
    assert plan.parameters == sum(pair.A.size + pair.B.size for pair in given.modules.values())
    assert plan.memory > 0
    assert plan.available > plan.memory
    assert plan.seconds > 0
    assert 2 * plan.tokens == done.report["refinement"]["tokens"]


def test_what_cannot_fit_is_refused_with_what_would(where, monkeypatch):
    config = transformers.AutoConfig.from_pretrained(where)
    assert config.hidden_size == 32
    monkeypatch.setattr(memory_plan, "available", lambda: 2_000_000)
    with pytest.raises(LorametaError) as error:
        finetune(task_rows("animal_sound", 40), where, settings=FAST | {"micro_batch_size": 16, "batch_size": 16})
    assert "does not fit" in str(error.value)
    monkeypatch.setattr(memory_plan, "available", lambda: 1_000)
    with pytest.raises(LorametaError, match="nothing smaller fits here"):
        finetune(ROWS, where, settings=FAST)


def test_of_a_seven_billion_base_smaller_choices_are_named(tmp_path):
    from lorameta.base_model.shape import outline

    config = transformers.MistralConfig()
    shape = outline(config, "seven", None, ("q_proj", "v_proj"), 8)
    settings = RefineSettings(precision="float32", checkpointing=False)
    with pytest.raises(LorametaError) as error:
        memory_plan.choose(shape, settings, 2048, 300_000_000, 20_000_000_000, "AMX")
    assert "64.3 GB in float32" in str(error.value)
    assert ": without --no-checkpointing --precision bfloat16 --max-length 512" in str(error.value)
    with pytest.raises(LorametaError, match="a base of the same kind with up to about"):
        memory_plan.choose(shape, RefineSettings(), 2048, 300_000_000, 8_000_000_000, "AMX")
    assert memory_plan.choose(shape, RefineSettings(), 512, 300_000_000, 20_000_000_000, "AMX").precision == "bfloat16"
    assert memory_plan.choose(shape, RefineSettings(), 512, 300_000_000, 90_000_000_000, "none").precision == "float32"
    assert memory_plan.choose(shape, RefineSettings(), 512, 300_000_000, 90_000_000_000, "AMX").compare


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


def test_smaller_micro_batches_come_before_computing_twice(where, monkeypatch):
    from lorameta.training import choose

    chosen = {}
    real = choose.fitting

    def fitting(settings, hyper, shape, dtype, train, micro_batch, kept, now, free, frozen):
        longest = max(len(row.ids) for row in train)
        one = real(settings, hyper, shape, dtype, train, longest, kept, now, 1 << 60)[2] - now
        chosen["small"] = real(settings, hyper, shape, dtype, train, 4 * longest, kept, now, round(one / 0.94))
        chosen["large"] = real(settings, hyper, shape, dtype, train, 4 * longest, kept, now, 1 << 60)
        wide = real(replace(settings, checkpointing=True), hyper, shape, dtype, train, longest, kept, now, 1 << 60)
        assert wide[1]
        chosen["longest"] = longest
        return real(settings, hyper, shape, dtype, train, micro_batch, kept, now, free, frozen)

    monkeypatch.setattr(choose, "fitting", fitting)
    with prepared(ROWS, where, FAST) as job:
        assert not job.plan.checkpointing
    assert chosen["small"][:2] == (chosen["longest"], False)
    assert chosen["large"][:2] == (4 * chosen["longest"], False)
    with prepared(ROWS, where, FAST | {"checkpointing": True}) as job:
        assert job.plan.checkpointing
        about = job.run().report["refinement"]
    assert about["checkpointing"]
    assert about["loss"] == pytest.approx(finetune(ROWS, where, settings=FAST).report["refinement"]["loss"], rel=1e-3)


def test_a_base_that_is_in_memory_is_as_it_was(where, given):
    base = load_base(where)
    assert isinstance(base, Base)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    refine(given, ROWS, base=base, settings=FAST)
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert base.model.config.use_cache
