"""GGUF adapters are what llama.cpp's own converter makes of them, and nothing wrong is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.errors import BankError, LorametaError, MissingExtraError, UsageError
from lorameta.export import FORMATS, export, export_gguf
from lorameta.export import gguf as gguf_export
from tests.export.models import CONFIGS, factors_for, linear_shapes, save_adapter, save_base, tiny_model
from tests.export.record_llama_cpp import RECORD, fields_of, tensors_of
from tests.peft_helpers import dense, write_peft

gguf = pytest.importorskip("gguf")

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 12, "tie_word_embeddings": True,
}  # fmt: skip
Q, K, V, DOWN = (f"model.layers.1.{name}_proj" for name in ("self_attn.q", "self_attn.k", "self_attn.v", "mlp.down"))
SHAPES = {Q: (8, 8), K: (4, 8), V: (4, 8), DOWN: (8, 12)}


def write_config(directory: Path, **options) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({**CONFIG, **options}))
    return directory


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """All of a base that is needed."""
    return write_config(tmp_path / "base")


def read(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: np.asarray(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def interleaved(weight: np.ndarray, n_head: int) -> np.ndarray:
    """As in llama.cpp's converter (`LlamaModel.permute`), on the dense update: no code of ours."""
    return (
        weight.reshape(n_head, 2, weight.shape[0] // n_head // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


def test_every_known_architecture_was_recorded():
    elsewhere = {"GPT2LMHeadModel"}  # test_conv1d.py, where llama.cpp itself runs it
    assert set(json.loads(RECORD.read_text())) == set(CONFIGS) == set(gguf_export.ARCHITECTURES) - elsewhere


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_file_is_that_of_llama_cpps_converter(tmp_path, architecture):
    """Names, shapes, dtypes and every bit, of adapters on all linear layers, as its own script wrote them."""
    model = tiny_model(architecture)
    base = save_base(model, tmp_path / "base")
    adapter = save_adapter(linear_shapes(model), tmp_path / "adapter", base)
    done = export(adapter, tmp_path / "out.gguf", format="gguf")
    expected = json.loads(RECORD.read_text())[architecture]
    assert tensors_of(done.path) == expected["tensors"]
    assert fields_of(done.path) == expected["fields"]
    assert (done.rounding < 1e-14, done.modules, done.bytes) == (
        True,
        len(expected["tensors"]) // 2,
        done.path.stat().st_size,
    )


def test_products_are_the_updates_in_llama_cpps_order(tmp_path, base):
    factors = factors_for(SHAPES)
    adapter = write_peft(tmp_path / "adapter", factors, alpha=7.5)
    done = export_gguf(adapter, tmp_path / "out.gguf", base=base)
    found = read(done.path)
    updates = dense(factors, 7.5)
    expected = {
        "blk.1.attn_q.weight": interleaved(updates[Q], 2),
        "blk.1.attn_k.weight": interleaved(updates[K], 1),
        "blk.1.attn_v.weight": updates[V],
        "blk.1.ffn_down.weight": updates[DOWN],
    }
    assert set(found) == {f"{name}.lora_{half}" for name in expected for half in "ab"}
    for name, update in expected.items():
        A, B = found[f"{name}.lora_a"], found[f"{name}.lora_b"]
        np.testing.assert_allclose(7.5 / B.shape[1] * (B.astype(float) @ A), update, rtol=1e-6, atol=1e-7)
    assert not np.allclose(interleaved(updates[Q], 2), updates[Q])


def test_mixed_ranks_and_scalings_share_one_alpha(tmp_path, base):
    """llama.cpp divides the file's one alpha by each layer's rank, so the rest goes into B."""
    rng = np.random.default_rng(0)
    modules = {
        V: LoraPair(rng.normal(size=(2, 8)), rng.normal(size=(4, 2)), 0.3),
        DOWN: LoraPair(rng.normal(size=(5, 12)), rng.normal(size=(8, 5)), -2.0),
        V.replace("1", "0"): LoraPair(rng.normal(size=(3, 8)), rng.normal(size=(4, 3)), 0.0),
    }
    done = export_gguf(Adapter(modules, str(base)), tmp_path / "out.gguf")
    found = read(done.path)
    alpha = fields_of(done.path)["adapter.lora.alpha"]
    assert alpha == done.details["alpha"] != 0
    names = {V: "blk.1.attn_v", DOWN: "blk.1.ffn_down", V.replace("1", "0"): "blk.0.attn_v"}
    for module, pair in modules.items():
        A, B = (found[f"{names[module]}.weight.lora_{half}"].astype(float) for half in "ab")
        np.testing.assert_allclose(alpha / B.shape[1] * B @ A, pair.delta(), rtol=1e-6, atol=1e-6)
    assert done.rounding < 1e-6


@pytest.mark.parametrize("scaling", [0.1, 1.0, 2.0, -0.7])
def test_one_scaling_leaves_the_factors_alone(tmp_path, base, scaling):
    rng = np.random.default_rng(1)
    pair = LoraPair(rng.normal(size=(3, 8)), rng.normal(size=(4, 3)), scaling)
    done = export_gguf(Adapter({V: pair}, str(base)), tmp_path / "out.gguf")
    found = read(done.path)
    assert done.details["alpha"] == pytest.approx(3 * scaling, rel=1e-7)
    np.testing.assert_array_equal(found["blk.1.attn_v.weight.lora_b"], pair.B)
    np.testing.assert_array_equal(found["blk.1.attn_v.weight.lora_a"], pair.A)


@pytest.mark.parametrize(("dtype", "bits"), [("f16", 11), ("bf16", 8)])
def test_half_the_bytes_are_rounded_and_the_loss_is_told(tmp_path, base, dtype, bits):
    import torch

    rng = np.random.default_rng(2)
    pair = LoraPair(rng.normal(size=(3, 8)), rng.normal(size=(4, 3)), 2.0)
    done = export_gguf(Adapter({V: pair}, str(base)), tmp_path / "out.gguf", dtype=dtype)
    kind = {"f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    A, B = (torch.tensor(half).to(kind) for half in (pair.A, pair.B))
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(done.path).tensors}
    for name, half in (("lora_a", A), ("lora_b", B)):
        tensor = tensors[f"blk.1.attn_v.weight.{name}"]
        assert tensor.tensor_type.name == dtype.upper()
        assert tensor.data.tobytes() == half.view(torch.int16).numpy().tobytes()
    exact = pair.delta().astype(float)
    stored = 2.0 * (B.double() @ A.double()).numpy()
    assert done.rounding == pytest.approx(np.linalg.norm(stored - exact) / np.linalg.norm(exact), rel=1e-4)
    assert 2.0**-bits / 4 < done.rounding < 2.0 ** (1 - bits)


def test_the_same_adapter_gives_the_same_bytes(tmp_path, base):
    adapter = write_peft(tmp_path / "adapter", factors_for(SHAPES))
    first, second = (export_gguf(adapter, tmp_path / f"{i}.gguf", base=base).path.read_bytes() for i in range(2))
    assert first == second


def test_the_embedded_bank_goes_without_a_base(tmp_path):
    from lorameta.files.shipped import embedded_path

    adapter = next(path for path in sorted((embedded_path() / "adapters").iterdir()) if path.is_dir())
    done = export_gguf(adapter, tmp_path / "out.gguf")
    assert len(read(done.path)) == 2 * done.modules > 0


def test_a_hub_base_is_found_in_the_cache(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "hub" / "models--some--base"
    write_config(folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    adapter = write_peft(tmp_path / "adapter", factors_for(SHAPES))  # its base is some/base
    assert export_gguf(adapter, tmp_path / "out.gguf").modules == 4
    with pytest.raises(UsageError, match="hf download other/base"):
        export_gguf(adapter, tmp_path / "other.gguf", base="other/base")
    assert not (tmp_path / "other.gguf").exists()


# Bad input


def refused(tmp_path: Path, factors: dict, kind: type[Exception] = BankError, **options) -> str:
    """The message; nothing was written."""
    adapter = write_peft(tmp_path / "adapter", factors)
    with pytest.raises(kind) as caught:
        export_gguf(adapter, tmp_path / "out.gguf", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]
    return str(caught.value)


def test_layers_without_a_tensor_are_named_together(tmp_path, base):
    odd = {
        "model.layers.0.self_attn.rotary": (4, 8),
        "model.layers.2.self_attn.v_proj": (4, 8),  # there are two layers
        "model.layers.0.self_attn.q_proj": (6, 8),  # two heads cannot share six rows in pairs
        "model.layers.0.self_attn.v_proj": (4, 9),
        "model.layers.0.mlp.fc1": (12, 8),
        "model.layers.0.mlp.up_proj": (12, 8),  # the same tensor
    }
    message = refused(tmp_path, factors_for({**SHAPES, **odd}), base=base)
    assert all(f"- {module} " in message for module in odd if "fc1" not in module)
    assert Q not in message
    assert "would both be blk.0.ffn_up" in message


def test_gemma_has_no_head_of_its_own(tmp_path):
    base = write_config(tmp_path / "base", architectures=["GemmaForCausalLM"], tie_word_embeddings=None)
    assert "lm_head has no tensor" in refused(tmp_path, factors_for({"lm_head": (20, 8)}), base=base)


def test_weights_beside_the_configuration_are_compared(tmp_path):
    model = tiny_model("Qwen2ForCausalLM")
    base = save_base(model, tmp_path / "base")
    wrong = {"model.layers.0.self_attn.v_proj": (17, 32), "model.layers.0.mlp.gate_up_proj": (96, 32)}
    message = refused(tmp_path, factors_for(wrong), base=base)
    assert "v_proj changes a weight of (17, 32)" in message
    assert "gate_up_proj is not in the base" in message


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path):
    base = write_config(tmp_path / "base", architectures=["MambaForCausalLM"])
    message = refused(tmp_path, factors_for(SHAPES), base=base)
    assert "is a MambaForCausalLM" in message
    assert "MistralForCausalLM" in message
    assert "merged" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no config.json"),
        (b"", "is not JSON"),
        (b"[1]", "no JSON object"),
        (b"{}", "is a none"),
    ],
)
def test_a_directory_that_is_no_base_is_refused(tmp_path, content, message):
    (tmp_path / "base").mkdir()
    if content is not None:
        (tmp_path / "base" / "config.json").write_bytes(content)
    assert message in refused(tmp_path, factors_for(SHAPES), base=tmp_path / "base")


def test_a_base_that_is_not_here_is_refused(tmp_path, base):
    assert "--base" in refused(tmp_path, factors_for(SHAPES), UsageError, base=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="does not say what base"):
        export_gguf(Adapter({V: LoraPair(np.ones((1, 8)), np.ones((4, 1)))}, ""), tmp_path / "out.gguf")


def test_numbers_beyond_float16_are_refused(tmp_path, base):
    factors = factors_for(SHAPES)
    factors[V] = (factors[V][0] * np.float32(1e6), factors[V][1])
    message = refused(tmp_path, factors, UsageError, base=base, dtype="f16")
    assert f"{V} has numbers too large for f16" in message
    assert "bf16" in message


def test_unknown_formats_and_dtypes_name_the_known(tmp_path, base):
    adapter = write_peft(tmp_path / "adapter", factors_for(SHAPES))
    with pytest.raises(UsageError, match=r"unknown format 'onnx'; there are gguf, merged, ollama"):
        export(adapter, tmp_path / "out", format="onnx")
    assert list(FORMATS) == ["gguf", "merged", "ollama"]
    with pytest.raises(UsageError, match=r"'q4_0' for gguf; there are f32, f16, bf16"):
        export(adapter, tmp_path / "out", format="gguf", dtype="q4_0", base=base)


def test_other_files_are_not_replaced(tmp_path, base):
    adapter = write_peft(tmp_path / "adapter", factors_for(SHAPES))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no GGUF file"):
        export_gguf(adapter, tmp_path / "notes.txt", base=base)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(UsageError, match=r"is a directory; name a file in it, e\.g\. .*adapter\.gguf"):
        export_gguf(adapter, tmp_path, base=base)


def test_a_file_that_does_not_read_back_is_not_kept(tmp_path, base, monkeypatch):
    adapter = write_peft(tmp_path / "adapter", factors_for(SHAPES))
    path = export_gguf(adapter, tmp_path / "out.gguf", base=base).path
    before = path.read_bytes()
    write = gguf_export.write_gguf

    def flipped(library, fresh, *rest):
        write(library, fresh, *rest)
        data = bytearray(fresh.read_bytes())
        data[-20] ^= 1
        fresh.write_bytes(data)

    monkeypatch.setattr(gguf_export, "write_gguf", flipped)
    with pytest.raises(LorametaError, match=r"ffn_down\.weight\.lora_b is not what was written"):
        export_gguf(adapter, path, base=base)
    assert path.read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["adapter", "base", "out.gguf"]


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch, base):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lorameta\[gguf\]"'):
        export_gguf(tmp_path, tmp_path / "out.gguf", base=base)


def test_writing_gguf_needs_neither_torch_nor_transformers(tmp_path, base):
    adapter = write_peft(tmp_path / "adapter", factors_for(SHAPES))
    code = (
        "import sys; from lorameta.export import export\n"
        f"export({str(adapter)!r}, {str(tmp_path / 'out.gguf')!r}, format='gguf', base={str(base)!r})\n"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
