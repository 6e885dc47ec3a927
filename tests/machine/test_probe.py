"""One layer stands for all, and a part of it for the whole where memory is short."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import peft
import torch
import transformers

from lorameta.base_model.shape import outline
from lorameta.machine import probe
from lorameta.machine.speed import probe_head
from tests.doctor.configs import CONFIGS, mistral_7b, needs_attention_in
from tests.doctor.judging import GB


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_layers_keep_is_what_the_whole_model_keeps(dtype):
    needs_attention_in(dtype)
    config, length = CONFIGS["mistral"](), 96
    shape = outline(config, "m", None, ("all-linear",), 4)
    found = probe.probe(shape, dtype, rank=4, length=length, memory=GB, seconds=1.0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).requires_grad_(False)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear")).train()
    own = {p.data_ptr() for p in adapted.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    states = torch.randn(1, length, config.hidden_size).to(getattr(torch, dtype)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.get_decoder()(inputs_embeds=states, use_cache=False)
    whole = sum(storage.nbytes() for storage in kept.values())
    assert shape.layers * (found.kept_fixed + found.kept_per_token * length) == pytest.approx(whole, rel=0.1)


def test_no_more_than_the_given_memory_is_asked_for():
    shape = outline(mistral_7b(), "m", None, ("all-linear",), 16)
    whole = 2 * shape.layer_parameters  # a layer in bfloat16: 436 MB
    assert probe.fitting(shape, 2, 6 * GB)[1:] == (1, 1.0)
    assert probe.fitting(shape, 2, int(whole / 0.6) + 1)[1:] == (1, 1.0)
    config, layers, share = probe.fitting(shape, 2, int(whole / 0.6) - 10)
    assert layers == 1
    assert config.intermediate_size == 14336 // 2
    assert share == pytest.approx((2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 7168) / shape.layer_parameters, rel=1e-3)
    with pytest.raises(MemoryError, match=r"0\.4 GB does not fit into the 0\.1 GB"):
        probe.fitting(shape, 2, GB // 10)
    small = outline(CONFIGS["llama"](), "m", None, ("all-linear",), 4)
    assert probe.fitting(small, 2, GB)[1:] == (3, 1.0)  # so small that all its layers are measured


def test_a_layer_that_was_narrowed_counts_for_a_whole_one():
    needs_attention_in("bfloat16")
    config = CONFIGS["llama"]()
    config.intermediate_size, config.hidden_size, config.num_hidden_layers = 4096, 256, 1
    shape = outline(config, "m", None, ("all-linear",), 4)
    room = int(2 * shape.layer_parameters / 0.6 * 0.8)
    narrowed = probe.probe(shape, "bfloat16", rank=4, length=64, memory=room, seconds=1.0)
    whole = probe.probe(shape, "bfloat16", rank=4, length=64, memory=GB, seconds=1.0)
    assert narrowed.share == pytest.approx(0.54, abs=0.05)
    assert whole.share == 1
    assert narrowed.kept_per_token == pytest.approx(whole.kept_per_token, rel=0.25)


def test_a_part_of_a_large_vocabulary_stands_for_it():
    config = CONFIGS["llama"]()
    config.vocab_size, config.hidden_size = 50_000, 256
    shape = outline(config, "m", None, ("all-linear",), 4)
    found = probe_head(shape, "float32", answers=8, memory=15 * 10**6, seconds=1.0)
    assert found.share == pytest.approx(5 * 10**6 // 1024 / 50_000)
    whole = probe_head(shape, "float32", answers=8, memory=GB, seconds=1.0)
    assert whole.share == 1
    assert min(found.token, whole.token) > 0
    assert max(found.loss.sizes) <= 8
