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
from lorameta.errors import BankError  # noqa: E402
from lorameta.export import export  # noqa: E402
from lorameta.operator.factors import Factors  # noqa: E402

IDS, E = torch.tensor([[3, 14, 15, 9, 2, 6]]), 32


@pytest.fixture
def base(tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=E, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    directory = tmp_path / "gpt2"
    GPT2LMHeadModel(config).eval().save_pretrained(directory)
    (directory / "tokenizer.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text("{}")
    return directory


@pytest.fixture
def adapter(base):
    rng = np.random.default_rng(0)
    shapes = {"attn.c_attn": (3 * E, E), "attn.c_proj": (E, E), "mlp.c_fc": (4 * E, E), "mlp.c_proj": (E, 4 * E)}
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


def test_a_gguf_has_the_factors_as_they_are(base, adapter, tmp_path):
    """Not transposed, unlike the weights in the base's own file: llama.cpp keeps GPT-2's layers as all others."""
    gguf = pytest.importorskip("gguf")
    done = export(adapter, tmp_path / "adapter.gguf", format="gguf", base=base)
    found = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(done.path).tensors}
    names = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    assert len(found) == 2 * len(adapter.modules)
    for module, pair in adapter.modules.items():
        layer, _, name = module.removeprefix("transformer.h.").partition(".")
        place = f"blk.{layer}.{names[name]}.weight"
        np.testing.assert_array_equal(found[f"{place}.lora_a"], pair.A)
        np.testing.assert_array_equal(found[f"{place}.lora_b"], pair.B)


def test_factors_that_are_transposed_are_refused(base, adapter, tmp_path):
    pytest.importorskip("gguf")
    (base / "model.safetensors").unlink()  # the configuration is enough to see it
    name = "transformer.h.0.attn.c_attn"
    pair = adapter.modules[name]
    turned = Adapter({name: LoraPair(pair.B.T.copy(), pair.A.T.copy(), pair.scaling)}, str(base))
    with pytest.raises(BankError, match="takes 96 inputs; the hidden size of the base is 32"):
        export(turned, tmp_path / "adapter.gguf", format="gguf", base=base)


@pytest.mark.slow
def test_llama_cpp_computes_the_same(base, adapter, expected, tmp_path):
    """llama.cpp keeps GELU in a table of half-precision numbers."""
    from tests.export.test_runtimes import llama, llama_logits

    model = AutoModelForCausalLM.from_pretrained(base)
    write_gpt2(model, tmp_path / "base.gguf")
    export(adapter, tmp_path / "adapter.gguf", format="gguf", base=base)
    ids = IDS[0].tolist()
    with torch.no_grad():
        plain = model(IDS).logits[0].numpy()
    reference = expected[0].numpy()
    assert np.abs(reference - plain).max() > 100 * 5e-3
    for path, logits in ((None, plain), (tmp_path / "adapter.gguf", reference)):
        with llama(tmp_path / "base.gguf", path) as runtime:
            np.testing.assert_allclose(llama_logits(runtime, ids), logits, rtol=0, atol=5e-3)


def write_gpt2(model, path):
    """As llama.cpp's converter writes GPT-2: its layers transposed, the buffers of its attention left out."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" or key.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        array = tensor.detach().float().numpy()
        if key.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            array = array.T
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
