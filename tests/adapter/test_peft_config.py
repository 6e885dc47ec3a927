"""The configuration of an adapter is read by PEFT's rules; what it cannot say in plain LoRA is refused by name."""

from __future__ import annotations

import pytest

from lorameta.adapter import Adapter
from lorameta.adapter.peft_config import LoraSettings
from lorameta.errors import BankError
from tests.adapter.adapters import CONFIG, assert_deltas
from tests.peft_helpers import dense, random_factors, write_peft


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
