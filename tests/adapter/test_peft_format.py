"""What PEFT wrote is read as PEFT means it; damage and violations are named, all of them at once."""

from __future__ import annotations

import math
import re
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorameta.adapter import Adapter
from lorameta.errors import BankError
from lorameta.files import tensors as tensor_files
from tests.adapter.adapters import CONFIG, WEIGHTS, assert_deltas
from tests.peft_helpers import DOWN, K, Q, dense, random_factors, tensors_of, tiny_mistral, write_peft


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("infix", ["", ".default"])
def test_scaling_and_keys(tmp_path, rslora, infix):
    factors = random_factors(0)
    write_peft(tmp_path, factors, alpha=7.0, use_rslora=rslora, tensors=tensors_of(factors, infix))
    adapter = Adapter.from_pretrained(tmp_path)
    assert_deltas(adapter, dense(factors, 7.0, rslora=rslora))
    assert (adapter.base_model, adapter.rank, adapter.name) == ("some/base", 3, tmp_path.name)
    assert adapter.num_parameters == sum(A.size + B.size for A, B in factors.values())
    assert adapter.norm() == pytest.approx(
        math.sqrt(sum((d**2).sum() for d in dense(factors, 7, rslora=rslora).values()))
    )


PEFT_CONFIGS = {
    "list": dict(r=4, lora_alpha=9, target_modules=["q_proj", "v_proj"]),
    "regex": dict(r=4, lora_alpha=9, target_modules=r".*layers\.1\.(self_attn\.k_proj|mlp\..*_proj)"),
    "rslora": dict(r=4, lora_alpha=9, target_modules=["q_proj", "down_proj"], use_rslora=True),
    "patterns": dict(
        r=4,
        lora_alpha=9,
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj"],
        rank_pattern={"^model.layers.0.self_attn.q_proj": 2, r"layers\.1\.self_attn\.[qk]_proj": 6, "q_proj": 5},
        alpha_pattern={"up_proj": 3, r"layers\.1\..*\.v_proj": 16},
    ),
    "patterns, rslora": dict(
        r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 7}, alpha_pattern={"q_proj": 2},
        use_rslora=True,
    ),
    "layers": dict(r=2, lora_alpha=3, target_modules=["q_proj", "o_proj"], layers_to_transform=[1]),
    "excluded": dict(r=2, lora_alpha=3, target_modules=["q_proj"], exclude_modules=r".*layers\.0\.self_attn\.q_proj"),
    "gaussian": dict(r=2, lora_alpha=3, target_modules="all-linear", init_lora_weights="gaussian"),
}  # fmt: skip


@pytest.mark.parametrize("options", PEFT_CONFIGS.values(), ids=PEFT_CONFIGS)
def test_reads_what_peft_wrote_as_peft_means_it(tmp_path, options):
    """The oracle is PEFT's own `get_delta_weight`, module by module, over patterns, targets and scalings."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_mistral(), LoraConfig(task_type="CAUSAL_LM", **options))
    torch.manual_seed(1)
    expected = {}
    for name, module in model.base_model.model.named_modules():
        if hasattr(module, "lora_B"):
            torch.nn.init.normal_(module.lora_B["default"].weight)
            expected[name] = module.get_delta_weight("default").detach().double().numpy()
    model.save_pretrained(tmp_path)
    assert expected
    assert_deltas(Adapter.from_pretrained(tmp_path), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_reads_every_float_dtype(tmp_path, dtype):
    import torch
    from safetensors.torch import save_file

    factors = random_factors(1)
    write_peft(tmp_path, factors)
    tensors = {key: torch.from_numpy(array).to(getattr(torch, dtype)) for key, array in tensors_of(factors).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    adapter = Adapter.from_pretrained(tmp_path)
    for module, pair in adapter.modules.items():
        assert pair.A.dtype == np.float32
        for half, array in (("A", pair.A), ("B", pair.B)):
            stored = tensors[f"base_model.model.{module}.lora_{half}.weight"]
            np.testing.assert_array_equal(array, stored.float().numpy())


def damaged(kind: str, good: bytes) -> bytes:
    nan = bytearray(good)
    nan[-4:] = struct.pack("<f", math.nan)
    return {
        "empty": b"",
        "truncated": good[:-5],
        "truncated header": good[:60],
        "three bytes": good[:3],
        "html": b"\n<!DOCTYPE html><html><body>Not found</body></html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 81234\n",
        "pickle": b"PK\x03\x04" + b"\0" * 200,
        "old pickle": b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        "trailing": good + b"\0" * 9,
        "nan": bytes(nan),
        "text": b"hello, this is no tensor file at all",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("empty", "empty (0 bytes)"),
        ("truncated", "truncated"),
        ("truncated header", "truncated inside its header"),
        ("three bytes", "truncated"),
        ("html", "HTML"),
        ("lfs", "81234"),
        ("pickle", "pickle"),
        ("old pickle", "pickle"),
        ("trailing", "damaged"),
        ("nan", "1 values that are NaN or infinite"),
        ("text", "not a safetensors file"),
    ],
)
def test_damaged_weights_are_named(tmp_path, kind, named):
    path = write_peft(tmp_path, random_factors(0)) / WEIGHTS
    path.write_bytes(damaged(kind, path.read_bytes()))
    with pytest.raises(BankError) as caught:
        Adapter.from_pretrained(tmp_path)
    message = str(caught.value)
    assert named in message
    assert WEIGHTS in message
    assert re.search(r"get the file again|git lfs pull|save it as safetensors|leave it out", message)


def test_truncation_states_the_expected_bytes(tmp_path):
    path = write_peft(tmp_path, random_factors(0)) / WEIGHTS
    good = path.read_bytes()
    for size in range(0, len(good), 97):
        path.write_bytes(good[:size])
        with pytest.raises(BankError, match=WEIGHTS) as caught:
            Adapter.from_pretrained(tmp_path)
    assert f"{size} of {len(good)} bytes" in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), replacement=st.binary(min_size=1, max_size=12), config=st.booleans())
def test_any_damage_is_a_bank_error_or_harmless(tmp_path, position, replacement, config):
    """Whatever a few wrong bytes do, nothing but BankError comes out, and never a number that is not finite."""
    write_peft(tmp_path, random_factors(0))
    path = tmp_path / (CONFIG if config else WEIGHTS)
    data = bytearray(path.read_bytes())
    position %= len(data)
    data[position : position + len(replacement)] = replacement
    path.write_bytes(bytes(data))
    try:
        adapter = Adapter.from_pretrained(tmp_path)
    except BankError:
        return
    assert all(np.isfinite(pair.A).all() and np.isfinite(pair.B).all() for pair in adapter.modules.values())


def test_limits_on_size_and_number_of_tensors(tmp_path, monkeypatch):
    write_peft(tmp_path, random_factors(0))
    monkeypatch.setattr(tensor_files, "MAX_TENSORS", 5)
    with pytest.raises(BankError, match="6 tensors, more than"):
        Adapter.from_pretrained(tmp_path)
    monkeypatch.setattr(tensor_files, "MAX_BYTES", 100)
    with pytest.raises(BankError, match=r"has \d+ bytes, more than the 100"):
        Adapter.from_pretrained(tmp_path)


def test_pickle_only_missing_files_and_no_directory(tmp_path):
    directory = write_peft(tmp_path / "a", random_factors(0))
    (directory / WEIGHTS).rename(directory / "adapter_model.bin")
    with pytest.raises(BankError, match=r"adapter_model.bin is a pickle.*save_pretrained"):
        Adapter.from_pretrained(directory)
    (directory / "adapter_model.bin").unlink()
    (directory / CONFIG).unlink()
    with pytest.raises(BankError) as caught:
        Adapter.from_pretrained(directory)
    assert f"{WEIGHTS} is missing" in str(caught.value)
    assert f"{CONFIG} is missing" in str(caught.value)
    with pytest.raises(BankError, match="there is no directory"):
        Adapter.from_pretrained(tmp_path / "nowhere")


def test_all_violations_at_once(tmp_path):
    factors = random_factors(0)
    tensors = tensors_of(factors)
    prefix = "base_model.model."
    del tensors[f"{prefix}{Q}.lora_B.weight"]  # a missing half
    tensors[f"{prefix}{K}.lora_A.weight"] = np.zeros((4, 10), np.float32)  # not rank 3
    tensors[f"{prefix}{DOWN}.lora_A.weight"][0, 0] = np.inf
    tensors[f"{prefix}{DOWN}.lora_magnitude_vector"] = np.ones(10, np.float32)
    tensors["model.norm.lora_A.weight"] = np.ones((3, 2), np.float32)  # no prefix
    tensors[f"{prefix}lm_head.weight"] = np.ones((2, 2), np.float32)
    tensors[f"{prefix}conv.lora_A.weight"] = np.ones((3, 2, 1, 1), np.float32)
    tensors[f"{prefix}conv.lora_B.weight"] = np.ones((2, 3, 1, 1), np.float32)
    tensors[f"{prefix}extra.lora_A.weight"] = np.ones((3, 2), np.float32)  # not a target
    tensors[f"{prefix}extra.lora_B.weight"] = np.ones((2, 3), np.float32)
    tensors[f"{prefix}extra.lora_B.other.weight"] = np.ones((2, 3), np.float32)
    write_peft(tmp_path, factors, tensors=tensors, target_modules=["q_proj", "k_proj", "down_proj", "conv"])
    with pytest.raises(BankError) as caught:
        Adapter.from_pretrained(tmp_path)
    message = str(caught.value)
    for named in (
        f"{Q} has no lora_B",
        f"{K} has lora_A (4, 10) and lora_B (6, 3), but rank 3",
        f"{DOWN}.lora_A.weight has 1 values",
        "a DoRA magnitude",
        "does not start with 'base_model.model.'",
        "lm_head.weight is no lora_A or lora_B",
        "conv has factors of 4 and 4 axes",
        "extra is not among the configuration's target_modules",
        "extra.lora_B.weight is there twice",
    ):
        assert named in message, named
    assert message.count("\n  - ") == 9


def test_configuration_and_weights_are_reported_together(tmp_path):
    write_peft(tmp_path, random_factors(0), use_dora=True, init_lora_weights="pissa")
    (tmp_path / WEIGHTS).write_bytes(b"")
    with pytest.raises(BankError) as caught:
        Adapter.from_pretrained(tmp_path)
    assert all(named in str(caught.value) for named in ("use_dora", "pissa", "empty"))
