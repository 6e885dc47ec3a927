"""Merged models compute what PEFT computes; every byte that the adapter does not concern is the base's."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.export import export, export_merged
from lorameta.export import merged as merged_export
from tests.export.merged_base import SHAPES, UP, write_base
from tests.export.models import factors_for, linear_shapes, save_adapter, save_base, tiny_model
from tests.peft_helpers import dense, write_peft

ARCHITECTURES = ["MistralForCausalLM", "LlamaForCausalLM", "Qwen2ForCausalLM", "GemmaForCausalLM", "PhiForCausalLM",
                 "Phi3ForCausalLM"]  # fmt: skip


def logits(model: Any, vocabulary: int = 64) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return model(torch.arange(3, vocabulary - 1)[None]).logits[0].float().numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_computes_with_it_what_peft_computes(tmp_path, architecture):
    """Adapters on all linear layers, fused ones among them, with mixed ranks and scalings; sharded in two ways."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = save_base(tiny_model(architecture), tmp_path / "base", max_shard_size="20KB")
    model = tiny_model(architecture)
    targets = sorted({name.rpartition(".")[2] for name in linear_shapes(model)})
    wrapped = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=3, target_modules=targets, use_rslora=True,
            rank_pattern={"layers.1.*": 2}, alpha_pattern={targets[0]: 5},
        ),
    )  # fmt: skip
    torch.manual_seed(1)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    expected = logits(PeftModel.from_pretrained(tiny_model(architecture), tmp_path / "adapter").eval())
    merged = logits(wrapped.merge_and_unload())
    before = logits(tiny_model(architecture))
    assert np.abs(expected - before).max() > 0.1

    whole = export_merged(tmp_path / "adapter", tmp_path / "merged", base=base)
    resharded = export_merged(tmp_path / "adapter", tmp_path / "one", base=base, shard_size=10**9)
    for done in (whole, resharded):
        loaded = AutoModelForCausalLM.from_pretrained(done.path, dtype="auto").eval()
        np.testing.assert_allclose(logits(loaded), expected, rtol=0, atol=1e-4)
        np.testing.assert_allclose(logits(loaded), merged, rtol=0, atol=1e-4)
    assert whole.details["files"] == sorted(path.name for path in base.glob("*.safetensors"))
    assert len(whole.details["files"]) > 1
    assert resharded.details["files"] == ["model.safetensors"]
    assert not (resharded.path / "model.safetensors.index.json").exists()
    index = json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]
    assert json.loads((whole.path / "model.safetensors.index.json").read_text())["weight_map"] == index


def test_tied_embeddings_stay_tied(tmp_path):
    from transformers import AutoModelForCausalLM

    model = tiny_model("MistralForCausalLM")
    base = save_base(model, tmp_path / "base")
    adapter = save_adapter(linear_shapes(model), tmp_path / "adapter", base)
    done = export(adapter, tmp_path / "merged", format="merged")
    assert "lm_head.weight" not in load_file(done.path / "model.safetensors")
    loaded = AutoModelForCausalLM.from_pretrained(done.path)
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()


@pytest.mark.parametrize("code", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("dtype", [None, "f32", "f16", "bf16"])
def test_every_weight_is_the_sum_rounded(tmp_path, code, dtype):
    """Bit by bit: the sum is taken in float64, whose last digits, all that a kernel decides, rounding takes away."""
    import torch
    from safetensors.torch import load_file as load_torch

    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    base = write_base(tmp_path / "base", code=code)
    factors = {k: (A * np.float32(0.02), B) for k, (A, B) in factors_for(SHAPES).items()}
    adapter = write_peft(tmp_path / "adapter", factors)
    done = export_merged(adapter, tmp_path / "out", base=base, dtype=dtype)
    old, new = load_torch(base / "model.safetensors"), load_torch(done.path / "model.safetensors")
    kind = kinds[dtype.upper() if dtype else code]
    updates = dense(factors)
    lost = total = same = count = 0.0
    assert list(old) == list(new)
    for name, weight in old.items():
        assert new[name].dtype == kind
        update = torch.tensor(updates.get(name.removesuffix(".weight"), np.zeros(weight.shape)))
        exact = weight.double() + update
        rounded = torch.tensor(exact.numpy().astype(np.float16)) if kind is torch.float16 else exact.float().to(kind)
        assert torch.equal(new[name], rounded), name
        if update.any():
            lost, total = lost + float(((new[name].double() - exact) ** 2).sum()), total + float((update**2).sum())
            same, count = same + int((new[name].double() == weight.double()).sum()), count + weight.numel()
    assert done.rounding == pytest.approx(math.sqrt(lost / total), rel=1e-6, abs=1e-12)
    assert done.details["unchanged"] == same / count
    assert done.details["worst_rounding"] >= done.rounding
    config = json.loads((done.path / "config.json").read_text())
    told = {None: "float32", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}[dtype]
    assert config == {"model_type": "tiny", "dtype": told}


def test_a_small_update_is_lost_in_bfloat16_and_that_is_told(tmp_path):
    base = write_base(tmp_path / "base", code="BF16")
    factors = {k: (A * np.float32(1e-5), B) for k, (A, B) in factors_for(SHAPES).items()}
    adapter = write_peft(tmp_path / "adapter", factors)
    lossy = export_merged(adapter, tmp_path / "lossy", base=base)
    assert lossy.rounding > 0.5
    assert lossy.details["unchanged"] > 0.9
    assert export_merged(adapter, tmp_path / "whole", base=base, dtype="f32").rounding < 0.02


def test_what_the_adapter_does_not_concern_is_copied_byte_for_byte(tmp_path, adapter):
    extra = {"model.steps": np.arange(5, dtype=np.int64), "model.mask": np.array([True, False]),
             "model.norm.weight": np.ones(8, dtype=np.float32)}  # fmt: skip
    base = write_base(tmp_path / "base", extra=extra)
    for name in ("generation_config.json", "special_tokens_map.json", "LICENSE", "chat_template.jinja"):
        (base / name).write_text(f"of {name}")
    for name in ("README.md", "pytorch_model.bin", "model.gguf", "consolidated.safetensors", ".gitattributes"):
        (base / name).write_text("not of the merged model")
    (base / "onnx").mkdir()
    (adapter / "README.md").write_text("what it was made from")
    done = export_merged(adapter, tmp_path / "out", base=base, dtype="f16")
    names = {path.name for path in done.path.iterdir()}
    copied = {"tokenizer.json", "generation_config.json", "special_tokens_map.json", "LICENSE", "chat_template.jinja"}
    assert names == copied | {"config.json", "README.md", "ADAPTER.md", "model.safetensors"}
    assert all((done.path / name).read_bytes() == (base / name).read_bytes() for name in copied)
    assert (done.path / "ADAPTER.md").read_text() == "what it was made from"
    card = (done.path / "README.md").read_text()
    assert "library_name: transformers" in card
    assert f"{done.rounding:.2e} of the update" in card
    new = load_file(done.path / "model.safetensors")
    assert {name: array.dtype for name, array in new.items() if array.dtype != np.float16} == {
        "model.steps": np.int64,
        "model.mask": np.bool_,
    }
    np.testing.assert_array_equal(new["model.steps"], extra["model.steps"])
    assert done.bytes == sum(path.stat().st_size for path in done.path.iterdir())


@pytest.mark.parametrize("size", [1, 400, 800, 10**6])
def test_shards_are_no_larger_than_asked(tmp_path, base, adapter, size):
    whole = load_file(export_merged(adapter, tmp_path / "whole", base=base).path / "model.safetensors")
    done = export_merged(adapter, tmp_path / "out", base=base, shard_size=size)
    found: dict[str, np.ndarray] = {}
    for name in done.details["files"]:
        arrays = load_file(done.path / name)
        assert sum(array.nbytes for array in arrays.values()) <= size or len(arrays) == 1
        found |= arrays
    assert found.keys() == whole.keys()
    assert all(np.array_equal(found[name], whole[name]) for name in whole)
    if len(done.details["files"]) > 1:
        index = json.loads((done.path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(array.nbytes for array in whole.values())
        assert all(name in load_file(done.path / file) for name, file in index["weight_map"].items())


def test_blocks_and_repetitions_change_no_byte(tmp_path, base, adapter, monkeypatch):
    """As above: blocks of another size may add up in another order, and rounding hides it."""
    first = export_merged(adapter, tmp_path / "first", base=base).path
    second = export_merged(adapter, tmp_path / "second", base=base).path
    monkeypatch.setattr(merged_export, "BLOCK", 16)
    third = export_merged(adapter, tmp_path / "third", base=base).path
    for path in first.iterdir():
        assert (second / path.name).read_bytes() == path.read_bytes()
        assert (third / path.name).read_bytes() == path.read_bytes()


def test_an_adapter_in_memory_is_merged_with_its_card(tmp_path, base):
    modules = {UP: LoraPair(np.ones((1, 8)), np.ones((12, 1)), 0.5)}
    done = export_merged(Adapter(modules, str(base), weights={"one": 1.0}), tmp_path / "out")
    new, old = load_file(done.path / "model.safetensors"), load_file(base / "model.safetensors")
    np.testing.assert_allclose(new[f"{UP}.weight"], old[f"{UP}.weight"] + 0.5, rtol=1e-6)
    assert "What it was mixed from" in (done.path / "ADAPTER.md").read_text()


def test_a_tied_head_starts_from_the_embedding_even_if_the_file_has_one(tmp_path):
    head = {"lm_head.weight": np.ones((20, 8), dtype=np.float32)}
    factors = factors_for({"lm_head": (20, 8)})
    adapter = write_peft(tmp_path / "adapter", factors)
    base = write_base(tmp_path / "base", extra=head, tie_word_embeddings=True)
    untied = write_base(tmp_path / "untied", extra=head, tie_word_embeddings=False)
    for directory, start in ((base, "model.embed_tokens.weight"), (untied, "lm_head.weight")):
        done = export_merged(adapter, tmp_path / f"{directory.name}-out", base=directory)
        merged, before = (load_file(path / "model.safetensors") for path in (done.path, directory))
        np.testing.assert_allclose(merged["lm_head.weight"], before[start] + dense(factors)["lm_head"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of a child is read from Linux's /proc")
def test_memory_is_that_of_some_rows_not_of_a_shard(tmp_path):
    """A base of 0.8 GB in one file, with one tensor of 400 MB that the adapter changes, in less than 250 MB."""
    wide, tall = 4096, 25600
    arrays = {f"{UP}.weight": np.ones((tall, wide), dtype=np.float32),
              "model.embed_tokens.weight": np.ones((tall, wide), dtype=np.float32)}  # fmt: skip
    base = write_base(tmp_path / "base", extra=arrays)
    size = (base / "model.safetensors").stat().st_size
    del arrays
    adapter = write_peft(tmp_path / "adapter", factors_for({UP: (tall, wide)}, rank=16))
    code = (
        "from lorameta.export import export\n"
        f"export({str(adapter)!r}, {str(tmp_path / 'out')!r}, format='merged', base={str(base)!r}, dtype='bf16')\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    peak = int(run.stdout) * 1024
    print(f"peak {peak / 1e6:.0f} MB for a base of {size / 1e6:.0f} MB")
    assert size > 8e8
    assert peak < 2.5e8
