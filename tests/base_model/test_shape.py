"""What is computed of a base without its weights, held against the model itself, PEFT, and the gguf package."""

from __future__ import annotations

import pytest

from lorameta.base_model import shape as base
from lorameta.doctor import quantized
from lorameta.errors import UsageError

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
from tests.doctor.configs import CONFIGS, mistral_7b  # noqa: E402


@pytest.mark.parametrize("name", CONFIGS)
def test_the_outline_is_that_of_the_model(name):
    config = CONFIGS[name]()
    found = base.outline(config, name, None, ("all-linear",), 4)
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert found.parameters == model.num_parameters()
    assert found.layers == 3
    with torch.no_grad():
        cache = model(torch.ones(1, 7, dtype=torch.long), use_cache=True).past_key_values
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert found.layers * found.cache_per_token * 7 == kept
    assert found.head_parameters == model.get_output_embeddings().weight.numel()
    assert sum(found.blocks.values()) == found.parameters
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", fan_in_fan_out=name == "gpt2")
    adapted = peft.get_peft_model(model, config)
    trained = {n: p.numel() for n, p in adapted.named_parameters() if p.requires_grad}
    assert found.adapter_parameters == sum(trained.values())
    assert found.adapter_layers == len(trained) // 2
    assert {key.split(".lora_")[0].rpartition(".")[2] for key in trained} == set(found.targets)


def test_the_real_mistral_in_numbers_that_are_known():
    found = base.outline(mistral_7b(), "m", None, ("q_proj", "k_proj", "v_proj"), 16)
    assert found.parameters == 7_241_732_096  # as its index of weights says: 14,483,464,192 bytes in bfloat16
    assert found.adapter_parameters == 9_437_184
    sizes = quantized.sizes(found.blocks)
    # mistral-7b-instruct-v0.2 in Q4_K_M and Q8_0 as published: 4,368,439,584 and 7,695,857,952 bytes with metadata.
    assert 0 <= 4_368_439_584 - sizes["q4_k_m"] < 2_000_000
    assert 0 <= 7_695_857_952 - sizes["q8_0"] < 2_000_000


def test_the_bits_are_those_of_the_gguf_package():
    gguf = pytest.importorskip("gguf")
    for name, bits in quantized.BITS.items():
        numbers, size = gguf.GGML_QUANT_SIZES[getattr(gguf.GGMLQuantizationType, name.upper())]
        assert bits == size * 8 / numbers


def test_all_wrong_targets_are_named_with_what_there_is():
    with pytest.raises(UsageError, match=r"no linear layer c_proj, x_proj; it has down_proj.*say all-linear"):
        base.outline(CONFIGS["llama"](), "b", None, ("q_proj", "c_proj", "x_proj"), 4)


def test_no_memory_is_taken():
    psutil = pytest.importorskip("psutil")
    before = psutil.Process().memory_info().rss
    base.outline(mistral_7b(), "m", None, ("all-linear",), 16)
    assert psutil.Process().memory_info().rss - before < 200e6
