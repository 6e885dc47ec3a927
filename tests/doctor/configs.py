"""Small configurations of the architectures that adapters are made for, and one of true shape."""

from __future__ import annotations

import os

import pytest
import torch
import transformers

SMALL = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
CONFIGS = {
    "mistral": lambda: transformers.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=None),
    "llama": lambda: transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL, num_key_value_heads=2),
    "gemma2": lambda: transformers.Gemma2Config(**SMALL, num_key_value_heads=1, head_dim=32),
    "phi": lambda: transformers.PhiConfig(**SMALL),
    "phi3": lambda: transformers.Phi3Config(**SMALL, num_key_value_heads=2),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=320, n_embd=64, n_layer=3, n_head=4),
}


def mistral_7b():
    """Its shape is what transformers' defaults are."""
    return transformers.MistralConfig(vocab_size=32000, sliding_window=None)


def needs_attention_in(dtype: str) -> None:
    """Skip where PyTorch was told to use older kernels than the processor's and then has no attention in this type."""
    states = torch.ones(1, 1, 64, 16, dtype=getattr(torch, dtype))
    try:
        torch.nn.functional.scaled_dot_product_attention(states, states, states, is_causal=True)
    except RuntimeError as error:
        if os.environ.get("ATEN_CPU_CAPABILITY"):
            pytest.skip(f"PyTorch under ATEN_CPU_CAPABILITY: {error}")
        raise
