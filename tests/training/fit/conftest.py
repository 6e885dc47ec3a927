"""A tied base in miniature, and a task that its last block and its head can learn."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lorameta.adapter import Adapter, LoraPair
from lorameta.base_model.load import Base, load_base
from lorameta.data import Example
from tests.conftest import task_rows

HIDDEN, MLP = 48, 96


@pytest.fixture(scope="session")
def tied_base(tiny_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers whose head is its embedding, with the miniature bank's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("tied") / "base"
    shutil.copytree(tiny_bank / "base", directory, ignore=shutil.ignore_patterns("model*", "config.json"))
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=400, hidden_size=HIDDEN, intermediate_size=MLP, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.norm.weight.copy_(torch.linspace(0.5, 1.5, HIDDEN))
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def base(tied_base: Path) -> Base:
    """The same in memory."""
    return load_base(tied_base)


@pytest.fixture(scope="session")
def rows() -> list[Example]:
    """Forty labelled rows with four answers."""
    return [Example(row["input"], (row["output"],)) for row in task_rows("animal_sound", 40)]


@pytest.fixture(scope="session")
def adapter(tied_base: Path) -> Adapter:
    """A random update of q, of the last down_proj and of the head."""
    rng = np.random.default_rng(5)
    shapes = {
        "model.layers.0.self_attn.q_proj": (HIDDEN, HIDDEN),
        "model.layers.1.mlp.down_proj": (HIDDEN, MLP),
        "lm_head": (400, HIDDEN),
    }
    modules = {
        name: LoraPair(rng.normal(0, 0.3, (3, d_in)), rng.normal(0, 0.3, (d_out, 3)), 0.5)
        for name, (d_out, d_in) in shapes.items()
    }
    return Adapter(modules, str(tied_base))
