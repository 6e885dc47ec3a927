"""GPT-2 keeps its layers transposed (Conv1D): merged and tried, an adapter does what PEFT makes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from peft import PeftModel  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel  # noqa: E402

from lorameta.adapter import Adapter, LoraPair  # noqa: E402
from lorameta.export import export  # noqa: E402
from lorameta.operator.factors import Factors  # noqa: E402

IDS = torch.tensor([[3, 14, 15, 9, 2, 6]])


@pytest.fixture
def base(tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    directory = tmp_path / "gpt2"
    GPT2LMHeadModel(config).eval().save_pretrained(directory)
    (directory / "tokenizer.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text("{}")
    return directory


@pytest.fixture
def adapter(base):
    rng = np.random.default_rng(0)
    shapes = {"attn.c_attn": (24, 8), "attn.c_proj": (8, 8), "mlp.c_fc": (32, 8), "mlp.c_proj": (8, 32)}
    modules = {
        f"transformer.h.{layer}.{name}": LoraPair(
            rng.normal(size=(2, d_in)).astype("f4"), rng.normal(size=(d_out, 2)).astype("f4"), 0.2
        )
        for layer in range(2)
        for name, (d_out, d_in) in shapes.items()
    }
    return Adapter(modules, str(base))


@pytest.fixture
def expected(base, adapter, tmp_path):
    """Oracle: PEFT, with the adapter that this package writes, on the plain model."""
    directory = adapter.save_pretrained(tmp_path / "adapter")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(directory))
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_merged_is_what_peft_computes(base, adapter, expected, tmp_path, prefix):
    if not prefix:  # as the published GPT-2: without the name of the stack
        weights = {
            key.removeprefix("transformer."): value for key, value in load_file(base / "model.safetensors").items()
        }
        save_file(weights, base / "model.safetensors", {"format": "pt"})
    done = export(adapter, tmp_path / "merged", format="merged", base=base)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(done.path)(IDS).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert json.loads((done.path / "config.json").read_text())["model_type"] == "gpt2"


def test_a_trial_runs_the_same_update(base, adapter, expected):
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad(), Factors(model, [adapter]).attached(np.ones(1)):
        logits = model(IDS).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
