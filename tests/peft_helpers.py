"""PEFT directories and dense updates for tests, written without any code of lorameta."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Q = "model.layers.0.self_attn.q_proj"
K = "model.layers.0.self_attn.k_proj"
DOWN = "model.layers.1.mlp.down_proj"
SHAPES = {Q: (12, 10), K: (6, 10), DOWN: (10, 14)}  # (d_out, d_in)


def random_factors(seed: int, rank: int = 3, shapes: dict[str, tuple[int, int]] | None = None) -> dict:
    """module -> (A, B), float32."""
    rng = np.random.default_rng(seed)
    return {
        module: (
            rng.normal(size=(rank, d_in)).astype(np.float32),
            rng.normal(size=(d_out, rank)).astype(np.float32),
        )
        for module, (d_out, d_in) in (SHAPES if shapes is None else shapes).items()
    }


def tensors_of(factors: dict, infix: str = "") -> dict[str, np.ndarray]:
    tensors = {}
    for module, (A, B) in factors.items():
        tensors[f"base_model.model.{module}.lora_A{infix}.weight"] = np.ascontiguousarray(A)
        tensors[f"base_model.model.{module}.lora_B{infix}.weight"] = np.ascontiguousarray(B)
    return tensors


def write_peft(
    directory: Path, factors: dict, *, alpha: float = 6.0, tensors: dict | None = None, **config: Any
) -> Path:
    """A PEFT directory; `config` overrides entries of the configuration, `tensors` the content of the weights."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "base_model_name_or_path": "some/base",
        "bias": "none",
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "peft_type": "LORA",
        "r": next(iter(factors.values()))[0].shape[0] if factors else 3,
        "target_modules": sorted({module.rpartition(".")[2] for module in factors}),
        "task_type": "CAUSAL_LM",
        **config,
    }
    (directory / "adapter_config.json").write_text(json.dumps(content))
    save_file(tensors_of(factors) if tensors is None else tensors, directory / "adapter_model.safetensors")
    return directory


def dense(factors: dict, alpha: float = 6.0, *, rslora: bool = False) -> dict[str, np.ndarray]:
    """module -> ΔW in float64: the oracle."""
    updates = {}
    for module, (A, B) in factors.items():
        rank = A.shape[0]
        scaling = alpha / (math.sqrt(rank) if rslora else rank)
        updates[module] = scaling * np.einsum("or,ri->oi", B.astype(np.float64), A.astype(np.float64))
    return updates


def tiny_mistral(seed: int = 0) -> Any:
    """A random two-layer MistralForCausalLM with grouped key and value heads."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    return MistralForCausalLM(config).eval()
