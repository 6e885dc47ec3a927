"""Adapters: what PEFT wrote is read as PEFT means it, what is written PEFT reads, and damage is named."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorameta.adapter import Adapter, LoraPair
from lorameta.adapter.peft_config import LoraSettings
from lorameta.errors import BankError, LorametaError, UsageError
from lorameta.files import atomic
from lorameta.files import tensors as tensor_files
from tests.peft_helpers import DOWN, K, Q, dense, random_factors, tensors_of, tiny_mistral, write_peft

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}


def adapter_of(factors: dict, scaling: float = 2.0, **keywords) -> Adapter:
    return Adapter({module: LoraPair(A, B, scaling) for module, (A, B) in factors.items()}, "some/base", **keywords)


def assert_deltas(adapter: Adapter, expected: dict[str, np.ndarray], rtol: float = 1e-6) -> None:
    assert list(adapter.modules) == sorted(expected)
    for module, update in expected.items():
        np.testing.assert_allclose(adapter.modules[module].delta(), update, rtol=0, atol=rtol * np.abs(update).max())


# Reading


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


def test_targets_match_pefts_rule():
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    names = [
        f"model.layers.{layer}.{part}"
        for layer in (0, 1, 11)
        for part in ("self_attn.q_proj", "mlp.experts.1.up_proj", "xq_proj")
    ] + ["q_proj", "lm_head", "model.h.1.q_proj"]
    cases = [
        dict(target_modules=["q_proj"]),
        dict(target_modules=["layers.1.self_attn.q_proj", "lm_head"]),
        dict(target_modules=r".*\.1\..*q_proj"),
        dict(target_modules=["q_proj", "up_proj"], layers_to_transform=1),
        dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[1, 11], layers_pattern="layers"),
        dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[1], layers_pattern=["h", "layers"]),
        dict(target_modules=["q_proj", "lm_head"], exclude_modules=["self_attn.q_proj"]),
        dict(target_modules=["q_proj", "lm_head"], exclude_modules=r"model\..*"),
    ]
    for case in cases:
        theirs = LoraConfig(**case)
        ours = dict(case)
        for key in ("layers_to_transform", "layers_pattern"):
            if key in ours:
                ours[key] = tuple(ours[key]) if isinstance(ours[key], list) else (ours[key],)
        for key in ("target_modules", "exclude_modules"):
            if isinstance(ours.get(key), list):
                ours[key] = tuple(ours[key])
        for name in names:
            expected = check_target_module_exists(theirs, name)
            expected = bool(expected) and type(expected).__name__ != "_ExcludedModule"
            assert LoraSettings(4, 4, **ours).targets(name) == expected, (case, name)


def test_patterns_match_as_pefts_do():
    from peft.utils.other import get_pattern_key

    names = ["model.layers.1.q_proj", "q_proj", "model.xq_proj", "model.q_proj.extra", "model.layers.11.v_proj", "a+b"]
    cases = [
        {"q_proj": 2},
        {"layers.1.q_proj": 2, "q_proj": 3},
        {"q_proj": 3, "layers.1.q_proj": 2},
        {"^q_proj": 2, "^model.layers.1.q_proj": 5},
        {"q_proj|v_proj": 2},
        {"a+b": 7, "layers": 9, r"layers\.1.*": 4},
        {"model": 2, "proj": 3, "": 5},
    ]
    for patterns in cases:
        ours = LoraSettings(8, 16.0, rank_pattern=patterns, alpha_pattern=patterns)
        for name in names:
            expected = patterns.get(get_pattern_key(patterns, name), 8)
            assert ours.rank_of(name) == expected, (patterns, name)
            assert ours.scaling_of(name) == (1.0 if expected != 8 or name in patterns else 2.0), (patterns, name)


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


# Refusing

REFUSALS = {
    "dora": (dict(use_dora=True), "use_dora"),
    "lora_bias": (dict(lora_bias=True), "lora_bias"),
    "modules_to_save": (dict(modules_to_save=["lm_head"]), "modules_to_save"),
    "trainable tokens": (dict(trainable_token_indices=[0]), "trainable_token_indices"),
    "target_parameters": (dict(target_parameters=["mlp.experts.w"]), "target_parameters"),
    "layer_replication": (dict(layer_replication=[[0, 1]]), "layer_replication"),
    "bias": (dict(bias="lora_only"), "bias 'lora_only'"),
    "adalora": (dict(peft_type="ADALORA"), "peft_type 'ADALORA'"),
    "pissa": (dict(init_lora_weights="pissa_niter_4"), "init_lora_weights 'pissa_niter_4'"),
    "olora": (dict(init_lora_weights="olora"), "init_lora_weights 'olora'"),
    "corda": (dict(init_lora_weights="corda"), "init_lora_weights 'corda'"),
    "loftq": (dict(init_lora_weights="loftq"), "init_lora_weights 'loftq'"),
    "rank text": (dict(r="3"), "r = '3'"),
    "rank zero": (dict(r=0), "r = 0"),
    "alpha null": (dict(lora_alpha=None), "lora_alpha = None"),
    "pattern": (dict(rank_pattern={"q_proj": -1}), "rank_pattern q_proj = -1"),
    "pattern regex": (dict(alpha_pattern={"q_(proj": 1}), "no regular expression"),
    "target regex": (dict(target_modules="("), "no regular expression"),
}


@pytest.mark.parametrize(("config", "named"), REFUSALS.values(), ids=REFUSALS)
def test_variants_are_refused_by_name(tmp_path, config, named):
    write_peft(tmp_path, random_factors(0), **config)
    with pytest.raises(BankError) as caught:
        Adapter.from_pretrained(tmp_path)
    assert named in str(caught.value)
    assert CONFIG in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_harmless_options_are_accepted(tmp_path):
    factors = random_factors(0)
    harmless = dict(
        use_dora=False, lora_bias=False, modules_to_save=None, rank_pattern=None, alpha_pattern={}, loftq_config={},
        init_lora_weights="gaussian", corda_config=None, lora_dropout=0.1, some_future_option=None, layers_pattern=None,
    )  # fmt: skip
    write_peft(tmp_path, factors, **harmless)
    assert_deltas(Adapter.from_pretrained(tmp_path), dense(factors))


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


def test_lying_headers_are_refused():
    def file(header: str, data: bytes) -> bytes:
        return struct.pack("<Q", len(header)) + header.encode() + data

    one = '"dtype":"F32","shape":[1],"data_offsets"'
    lies = [
        file(f'{{"a":{{{one}:[0,4]}},"b":{{{one}:[0,4]}}}}', b"\0" * 4),  # overlap
        file(f'{{"a":{{{one}:[4,8]}}}}', b"\0" * 8),  # hole
        file('{"a":{"dtype":"F32","shape":[9999999999,9999999999],"data_offsets":[0,4]}}', b"\0" * 4),
        file(f'{{"a":{{{one}:[0,400000000]}}}}', b"\0" * 4),
        file("[]", b""),
        file("[" * 50_000, b""),
        struct.pack("<Q", 1 << 62) + b"{}",
    ]
    for data in lies:
        problems: list[str] = []
        assert tensor_files.from_bytes(data, problems) == {}
        assert len(problems) == 1
    problems = []
    assert (
        tensor_files.from_bytes(file('{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}', b"\0" * 8), problems)
        == {}
    )
    assert "dtype I64" in problems[0]


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


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"<html>", "HTML"),
        (b"\xff\xfe{}", "not JSON"),
    ],
)
def test_damaged_configuration_is_named(tmp_path, data, named):
    (write_peft(tmp_path, random_factors(0)) / CONFIG).write_bytes(data)
    with pytest.raises(BankError, match=f"{CONFIG} is .*{named}|{CONFIG} is {named}"):
        Adapter.from_pretrained(tmp_path)


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


# Writing


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_round_trip(tmp_path, dtype):
    factors = random_factors(2)
    adapter = adapter_of(factors, scaling=0.75, base_revision="abc", weights={"x": 0.25, "y": 0.75})
    directory = adapter.save_pretrained(tmp_path / "out", dtype=dtype)
    again = Adapter.from_pretrained(directory)
    assert_deltas(again, dense(factors, 0.75 * 3), rtol=2e-2 if dtype == "bfloat16" else 1e-6)
    assert (again.base_model, again.base_revision, again.rank) == ("some/base", "abc", 3)
    config = json.loads((directory / CONFIG).read_text())
    assert config["lora_alpha"] == config["r"] == 3
    assert config["target_modules"] == sorted(factors)
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert not config["use_rslora"]
    assert sorted(path.name for path in directory.iterdir()) == ["README.md", CONFIG, WEIGHTS]
    card = (directory / "README.md").read_text()
    assert "| y | 0.750000 |" in card
    assert "base_model" in card


def test_modules_of_unequal_rank_are_padded(tmp_path):
    factors = random_factors(3, rank=2, shapes={Q: (12, 10)}) | random_factors(4, rank=5, shapes={DOWN: (10, 14)})
    adapter = Adapter({module: LoraPair(A, B) for module, (A, B) in factors.items()}, "b")
    again = Adapter.from_pretrained(adapter.save_pretrained(tmp_path / "out"))
    assert [pair.rank for pair in again.modules.values()] == [5, 5]
    for module, (A, B) in factors.items():
        np.testing.assert_allclose(again.modules[module].delta(), B.astype(float) @ A, atol=1e-5)


def test_bfloat16_rounds_as_torch_does():
    import torch
    from safetensors.torch import load

    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.concatenate([values[np.abs(values) < 3e38], np.float32([0, -0.0, 1.00390625, 1.01171875, 1e-40])])
    stored = load(tensor_files.to_bytes({"x": values}, dtype="bfloat16"))["x"]
    assert stored.dtype == torch.bfloat16
    assert torch.equal(stored, torch.from_numpy(values).bfloat16())


def test_tensor_file_is_that_of_safetensors():
    from safetensors.numpy import load, save

    arrays = tensors_of(random_factors(0))
    data = tensor_files.to_bytes(dict(reversed(arrays.items())))
    assert data == save(arrays, metadata={"format": "pt"})
    for name, array in load(data).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_same_adapter_same_bytes(tmp_path):
    factors = random_factors(5)
    first = adapter_of(factors).save_pretrained(tmp_path / "one")
    second = adapter_of(dict(reversed(factors.items()))).save_pretrained(tmp_path / "two")
    third = adapter_of(factors).save_pretrained(tmp_path / "two")
    assert second == third
    for name in (CONFIG, WEIGHTS, "README.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_card_is_written_as_given(tmp_path):
    directory = adapter_of(random_factors(0)).save_pretrained(tmp_path / "a", card="# Für mich\n")
    assert (directory / "README.md").read_bytes() == "# Für mich\n".encode()


def test_numbers_that_cannot_be_saved_are_named(tmp_path):
    factors = random_factors(0)
    factors[Q][1][0, 0] = np.nan
    with pytest.raises(UsageError, match=rf"{Q}\.lora_B\.weight has 1 values that are NaN"):
        adapter_of(factors).save_pretrained(tmp_path / "out")
    with pytest.raises(UsageError, match="no modules"):
        Adapter({}, "b").save_pretrained(tmp_path / "out")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        adapter_of(random_factors(0)).save_pretrained(tmp_path / "out", dtype="int8")
    assert list(tmp_path.iterdir()) == []


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="no product"):
        LoraPair(np.zeros((3, 4)), np.zeros((5, 2)))


def test_a_foreign_directory_is_left_alone(tmp_path):
    adapter = adapter_of(random_factors(0))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        adapter.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        adapter.save_pretrained(tmp_path / "notes.txt")
    ours = adapter.save_pretrained(tmp_path / "out")
    (ours / "training.log").write_text("mine too")
    with pytest.raises(UsageError, match=r"training\.log"):
        adapter.save_pretrained(ours)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "out"]
    (tmp_path / "empty").mkdir()
    adapter.save_pretrained(tmp_path / "empty")
    adapter.save_pretrained(tmp_path / "new" / "deep" / "out")


def test_a_link_keeps_pointing_at_the_new_adapter(tmp_path):
    old = adapter_of(random_factors(0)).save_pretrained(tmp_path / "real")
    (tmp_path / "link").symlink_to(old)
    written = adapter_of(random_factors(1)).save_pretrained(tmp_path / "link")
    assert written == old
    assert (tmp_path / "link").is_symlink()
    assert_deltas(Adapter.from_pretrained(tmp_path / "link"), dense(random_factors(1)))


@pytest.mark.parametrize("failing", ["first write", "second write", "flush", "rename in", "interrupt"])
def test_a_crash_while_saving_leaves_the_old_adapter(tmp_path, monkeypatch, failing):
    target = adapter_of(random_factors(0)).save_pretrained(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    calls = {"write": 0, "rename": 0}
    write, rename = atomic.write_bytes, Path.rename

    def broken_write(path, data):
        calls["write"] += 1
        if (failing == "first write" and calls["write"] == 1) or (failing == "second write" and calls["write"] == 2):
            path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        if failing == "interrupt" and calls["write"] == 3:
            raise KeyboardInterrupt
        write(path, data)

    def broken_rename(self, to):
        if failing == "rename in" and self.suffix == ".tmp":
            raise PermissionError(13, "Permission denied")
        return rename(self, to)

    def broken_flush(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(atomic, "write_bytes", broken_write)
    monkeypatch.setattr(Path, "rename", broken_rename)
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)  # as on a system without it
    if failing == "flush":
        monkeypatch.setattr(os, "fsync", broken_flush)
    expected = KeyboardInterrupt if failing == "interrupt" else LorametaError
    with pytest.raises(expected) as caught:
        adapter_of(random_factors(1)).save_pretrained(target)
    if expected is LorametaError:
        assert "What was there is unchanged" in str(caught.value)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_process_leaves_the_old_adapter_and_its_rest_is_swept(tmp_path):
    target = adapter_of(random_factors(0)).save_pretrained(tmp_path / "out")
    script = f"""
import os
from lorameta.files import atomic
from lorameta.adapter import Adapter
atomic.swap = lambda *_: os._exit(9)  # everything is written, nothing is in place
Adapter.from_pretrained({str(target)!r}).save_pretrained({str(target)!r}, card="other")
"""
    run = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, check=False)
    assert run.returncode == 9
    assert "other" not in (target / "README.md").read_text()
    assert_deltas(Adapter.from_pretrained(target), dense(random_factors(0)))
    (rest,) = [path for path in tmp_path.iterdir() if path.name != "out"]
    adapter_of(random_factors(2)).save_pretrained(target)
    assert rest.exists()  # it may belong to a process that is still writing
    old = time.time() - 2 * atomic.STALE_AFTER
    os.utime(rest, (old, old))
    adapter_of(random_factors(2)).save_pretrained(target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_at_once_leave_one_whole_adapter(tmp_path):
    target = tmp_path / "out"
    candidates = [adapter_of(random_factors(seed)) for seed in range(4)]
    failures: list[BaseException] = []

    def write(adapter: Adapter) -> None:
        try:
            for _ in range(10):
                adapter.save_pretrained(target)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(adapter,)) for adapter in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("cannot write" in str(error) for error in failures)
    found = Adapter.from_pretrained(target).modules[Q].delta()
    assert any(np.allclose(found, adapter.modules[Q].delta(), atol=1e-5) for adapter in candidates)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# With PEFT


def base_logits(model):
    import torch

    ids = torch.arange(20).reshape(2, 10)
    with torch.inference_mode():
        return model(ids).logits.double().numpy()


def test_peft_loads_it_and_computes_with_the_dense_update(tmp_path):
    """Logits of base + PEFT adapter equal those of a base whose weights had ΔW added, and lorameta is not needed."""
    import torch
    from peft import PeftModel

    base = tiny_mistral()
    rng = np.random.default_rng(7)
    modules, merged = {}, copy.deepcopy(base)
    for name, module in base.named_modules():
        if name.endswith(("q_proj", "v_proj", "down_proj")) and name != "model.layers.0.mlp.down_proj":
            d_out, d_in = module.weight.shape
            rank = 2 if "v_proj" in name else 4
            modules[name] = LoraPair(rng.normal(size=(rank, d_in)) / 8, rng.normal(size=(d_out, rank)), 1.5)
            update = 1.5 * modules[name].B.astype(np.float64) @ modules[name].A.astype(np.float64)
            with torch.no_grad():
                merged.get_submodule(name).weight += torch.from_numpy(update).float()
    directory = Adapter(modules, "tiny", weights={"a": 1.0}).save_pretrained(tmp_path / "adapter")
    plain, expected = base_logits(base), base_logits(merged)
    assert np.abs(plain - expected).max() > 0.1
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), str(directory)).eval()
    np.testing.assert_allclose(base_logits(loaded), expected, atol=2e-5)
    assert {name.split(".lora_A")[0].removeprefix("base_model.model.")
            for name, _ in loaded.named_modules() if name.endswith("lora_A.default")} == set(modules)  # fmt: skip

    base.save_pretrained(tmp_path / "base")
    np.save(tmp_path / "expected.npy", expected)
    script = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lorameta":
            raise ImportError("lorameta is blocked")
sys.meta_path.insert(0, Blocked())
try:
    import lorameta
except ImportError:
    pass
else:
    raise SystemExit("lorameta could be imported")
import warnings
warnings.simplefilter("error")  # missing or unexpected keys only warn in PEFT
warnings.filterwarnings("ignore", category=DeprecationWarning)
warnings.filterwarnings("ignore", category=FutureWarning)
import numpy, torch
from peft import PeftModel
from transformers import MistralForCausalLM
base = MistralForCausalLM.from_pretrained({str(tmp_path / "base")!r})
model = PeftModel.from_pretrained(base, {str(directory)!r}).eval()
with torch.inference_mode():
    logits = model(torch.arange(20).reshape(2, 10)).logits.double().numpy()
print(float(abs(logits - numpy.load({str(tmp_path / "expected.npy")!r})).max()))
"""
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.strip().splitlines()[-1]) < 2e-5


def test_reading_adapters_needs_no_torch():
    heavy = {"torch", "peft", "transformers", "scipy"}
    script = "import sys, lorameta.adapter, lorameta.bank, lorameta.combiner; print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert "'numpy'" in run.stdout
    assert [name for name in heavy if f"'{name}'" in run.stdout] == []
