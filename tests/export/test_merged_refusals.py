"""What cannot be merged is refused with everything that is wrong, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from lorameta.adapter import Adapter
from lorameta.errors import BankError, LorametaError, UsageError
from lorameta.export import export_merged
from lorameta.export import merged as merged_export
from tests.export.merged_base import DOWN, UP, write_base
from tests.export.models import factors_for, save_base, tiny_model
from tests.peft_helpers import write_peft


def refused(tmp_path: Path, adapter: Path | Adapter, kind: type[Exception] = BankError, **options: Any) -> str:
    """The message; nothing was written or left behind."""
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(kind) as caught:
        export_merged(adapter, tmp_path / "out", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    return str(caught.value)


def test_an_adapter_of_another_base_is_refused_with_every_layer(tmp_path, base):
    wrong = {UP: (12, 9), "model.layers.0.self_attn.q_proj": (8, 8), "model.layers.7.mlp.up_proj": (12, 8)}
    message = refused(tmp_path, write_peft(tmp_path / "adapter", factors_for({**wrong, DOWN: (8, 12)})), base=base)
    assert f"{UP} changes a weight of (12, 9)" in message
    assert "(12, 8)" in message
    assert "model.layers.0.self_attn.q_proj is not in the base" in message
    assert "model.layers.7.mlp.up_proj is not in the base" in message
    assert DOWN not in message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, r"is quantized (gptq)"),
    ],
)
def test_bases_whose_weights_are_not_plain_are_refused(tmp_path, adapter, config, message):
    assert message in refused(tmp_path, adapter, base=write_base(tmp_path / "base", **config))


def test_a_base_without_a_tokenizer_is_refused(tmp_path, base, adapter):
    (base / "tokenizer.json").unlink()
    assert "has no tokenizer" in refused(tmp_path, adapter, base=base)


def test_a_base_that_is_not_whole_is_refused_with_all_that_is_missing(tmp_path, adapter):
    base = save_base(tiny_model("LlamaForCausalLM"), tmp_path / "base", max_shard_size="20KB")
    files = sorted(base.glob("*.safetensors"))
    assert len(files) > 3
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-5])
    message = refused(tmp_path, adapter, base=base)
    assert f"{files[0].name} is missing" in message
    assert f"{files[1].name} is truncated" in message


def test_an_index_that_lies_is_refused(tmp_path, base, adapter):
    (base / "model.safetensors").rename(base / "a.safetensors")
    index = base / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"{UP}.weight": "a.safetensors", "ghost": "a.safetensors"}}))
    assert "ghost should be in a.safetensors and is not" in refused(tmp_path, adapter, base=base)
    index.write_text(json.dumps({"weight_map": {f"{UP}.weight": "../base/a.safetensors"}}))
    assert "outside of its directory" in refused(tmp_path, adapter, base=base)
    index.write_text("{")
    assert "no index of weights" in refused(tmp_path, adapter, base=base)


def test_pickled_weights_are_not_read(tmp_path, base, adapter):
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    assert "pytorch_model.bin only, a pickle" in refused(tmp_path, adapter, base=base)
    (base / "pytorch_model.bin").unlink()
    assert "has no model.safetensors" in refused(tmp_path, adapter, base=base)


def test_other_files_are_not_replaced(tmp_path, base, adapter):
    assert "is the base itself" in _message(adapter, base, base)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("work")
    assert "it holds thesis.txt" in _message(adapter, tmp_path / "mine", base)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    first = export_merged(adapter, tmp_path / "out", base=base)
    assert export_merged(adapter, tmp_path / "out", base=base).bytes == first.bytes  # what was exported may be again


def _message(adapter: Path, output: Path, base: Path) -> str:
    with pytest.raises(UsageError) as caught:
        export_merged(adapter, output, base=base)
    return str(caught.value)


def test_a_disk_without_room_is_told_before_the_work(tmp_path, base, adapter, monkeypatch):
    usage = namedtuple("usage", "total used free")
    needed = sum(array.nbytes for array in load_file(base / "model.safetensors").values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, needed // 2))
    monkeypatch.setattr(merged_export, "write_shard", None)
    assert "GB free" in refused(tmp_path, adapter, LorametaError, base=base)


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_a_base_with_nan_is_refused(tmp_path, adapter, dtype):
    weight = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    weight.view(np.uint32)[3, 3] = 0x7FFFFFFF  # a NaN that would round to -0.0 in bfloat16
    base = write_base(tmp_path / "base", extra={f"{UP}.weight": weight})
    message = refused(tmp_path, adapter, LorametaError, base=base, dtype=dtype)
    assert f"{UP}.weight holds NaN" in message


def test_numbers_beyond_float16_are_refused_with_every_tensor(tmp_path, adapter):
    big = {"model.embed_tokens.weight": np.full((20, 8), 1e6, dtype=np.float32),
           f"{DOWN}.weight": np.full((8, 12), 1e5, dtype=np.float32)}  # fmt: skip
    base = write_base(tmp_path / "base", extra=big)
    message = refused(tmp_path, adapter, LorametaError, base=base, dtype="f16")
    assert all(f"{name} overflows F16" in message for name in big)
    assert export_merged(adapter, tmp_path / "out", base=base, dtype="bf16").rounding > 0


def test_wrong_options_are_refused(tmp_path, base, adapter):
    assert "there are f32, f16, bf16" in refused(tmp_path, adapter, UsageError, base=base, dtype="int8")
    assert "at least 1" in refused(tmp_path, adapter, UsageError, base=base, shard_size=0)


def test_a_crash_leaves_the_old_model(tmp_path, base, adapter, monkeypatch):
    target = export_merged(adapter, tmp_path / "out", base=base).path
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    read = merged_export.read_all
    calls = []

    def failing(file, count):
        calls.append(count)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return read(file, count)

    monkeypatch.setattr(merged_export, "read_all", failing)
    with pytest.raises(LorametaError, match="What was there is unchanged"):
        export_merged(adapter, target, base=base, dtype="f16")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base", "out"]
