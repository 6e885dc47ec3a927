"""What fits into memory is chosen before the run, and what does not fit is refused with what would."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import transformers

from lorameta.base_model.batch import encode_example
from lorameta.data import load_examples
from lorameta.errors import LorametaError
from lorameta.training import RefineSettings, finetune, load_base, memory_plan, prepared
from lorameta.training.adapted import lora_on
from lorameta.training.measure import kept_bytes, without_cache
from tests.conftest import task_rows
from tests.training.refining import FAST, ROWS


def test_kept_bytes_grow_with_the_layers(where):
    base = load_base(where)
    row = encode_example(base.tokenizer, load_examples(ROWS)[0])
    with without_cache(base.model), lora_on(base, RefineSettings().training(rank=2)) as model:
        model.train()
        kept = kept_bytes(model, row, 0)
    width = base.model.config.hidden_size
    assert 4 * width * 2 * 5 < kept < 4 * width * 2 * 100  # two layers, some states of this width in each


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
