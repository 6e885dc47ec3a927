"""Directories of other tools are named for what they are, with the remedy, and each in one complaint."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorameta.adapter import Adapter, LoraPair
from lorameta.errors import BankError, LorametaWarning

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def directory(tmp_path):
    rng = np.random.default_rng(0)
    pair = LoraPair(rng.normal(size=(2, 6)).astype("f4"), rng.normal(size=(5, 2)).astype("f4"), 1.0)
    return Adapter({"model.layers.0.self_attn.q_proj": pair}, "owner/base").save_pretrained(tmp_path / "adapter")


def mlx(directory):
    (directory / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "lora", "num_layers": 16}))
    (directory / WEIGHTS).rename(directory / "adapters.safetensors")


def mlx_config(directory):
    (directory / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "lora", "num_layers": 16}))


def sharded(directory):
    (directory / WEIGHTS).rename(directory / "adapter_model-00001-of-00001.safetensors")
    (directory / f"{WEIGHTS}.index.json").write_text("{}")


def trainer(directory):
    for step in (50, 100):
        shutil.copytree(directory, directory.parent / "out" / f"checkpoint-{step}")
    shutil.rmtree(directory)
    (directory.parent / "out").rename(directory)


def named_folder(directory):
    (directory.parent / "other").mkdir()
    directory.rename(directory.parent / "other" / "default")
    (directory.parent / "other").rename(directory)


def whole_model(directory):
    (directory / "adapter_config.json").unlink()
    (directory / WEIGHTS).rename(directory / "model.safetensors")


def husk(directory):
    save_file({key: np.zeros(0, "f4") for key in load_file(directory / WEIGHTS)}, directory / WEIGHTS)


def saved_head(directory):
    more = {"base_model.model.lm_head.weight": np.ones((4, 6), "f4")}
    save_file(load_file(directory / WEIGHTS) | more, directory / WEIGHTS)


CASES = {
    mlx: "adapter of MLX.*lora_alpha = scale times rank",
    sharded: "in 1 part .*adapter_model-00001-of-00001.*put them together",
    trainer: r"output of a training: its adapters are in checkpoint-100, checkpoint-50; name .*checkpoint-100$",
    named_folder: "no adapter itself, but holds some in default; name the one",
    whole_model: "a whole model, not an adapter",
    husk: "2 empty tensors of 2, as DeepSpeed ZeRO-3.*zero_to_fp32",
    saved_head: "lm_head.weight is no lora_A or lora_B, but a whole embedding or head.*save_embedding_layers=False",
}


@pytest.mark.parametrize("damage", CASES)
def test_one_complaint_names_what_it_is_and_the_remedy(directory, damage):
    damage(directory)
    with pytest.raises(BankError, match=f"(?s){CASES[damage]}") as caught:
        Adapter.from_pretrained(directory)
    assert str(caught.value).count("\n  - ") == 1


def test_a_configuration_of_mlx_beside_weights(directory):
    mlx_config(directory)
    with pytest.raises(BankError, match=r"adapter_config.json is of another tool: it is an adapter of MLX"):
        Adapter.from_pretrained(directory)


def test_an_update_of_zero_is_said(directory):
    arrays = load_file(directory / WEIGHTS)
    whole = Adapter.from_pretrained(directory)
    assert not whole.is_zero()
    save_file({key: array * ("lora_A" in key) for key, array in arrays.items()}, directory / WEIGHTS)
    zero = Adapter.from_pretrained(directory)
    assert zero.is_zero()
    assert zero.norm() == 0
    with pytest.warns(LorametaWarning, match="the update of mine is zero: it changes nothing"):
        zero.warn_if_zero("mine")
