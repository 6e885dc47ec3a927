"""Small random models of many architectures, adapters on all of their linear layers, and PEFT directories of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.peft_helpers import write_peft

SIZES = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, pad_token_id=0, bos_token_id=1,
    eos_token_id=2,
)  # fmt: skip

#: Architecture -> its configuration class and what it needs besides; heads of 16 are not hidden_size / heads.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "MistralForCausalLM": ("MistralConfig", dict(head_dim=16, tie_word_embeddings=True)),
    "LlamaForCausalLM": ("LlamaConfig", dict(head_dim=16)),
    "Qwen2ForCausalLM": ("Qwen2Config", dict(tie_word_embeddings=False)),
    "GemmaForCausalLM": ("GemmaConfig", dict(head_dim=16)),
    "PhiForCausalLM": ("PhiConfig", dict(num_key_value_heads=4)),
    "Phi3ForCausalLM": ("Phi3Config", dict(original_max_position_embeddings=64)),
    "GraniteForCausalLM": ("GraniteConfig", {}),
    "SmolLM3ForCausalLM": ("SmolLM3Config", {}),
    "Qwen3ForCausalLM": ("Qwen3Config", dict(head_dim=16)),
    "Gemma2ForCausalLM": ("Gemma2Config", dict(head_dim=16)),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", dict(head_dim=16)),
    "Olmo2ForCausalLM": ("Olmo2Config", {}),
    "StableLmForCausalLM": ("StableLmConfig", {}),
    "Starcoder2ForCausalLM": ("Starcoder2Config", {}),
}
RANK = 3


def tiny_model(architecture: str, **options: Any) -> Any:
    """A random model; the same every time."""
    import torch
    import transformers

    name, more = CONFIGS[architecture]
    config = getattr(transformers, name)(**{**SIZES, **more, **options})
    config.architectures = [architecture]
    torch.manual_seed(0)
    return getattr(transformers, architecture)(config).eval()


def save_base(model: Any, directory: Path, **options: Any) -> Path:
    """A base as it comes from the Hub, with the sign of a tokenizer."""
    model.save_pretrained(directory, **options)
    (directory / "tokenizer.json").write_text("{}")
    return directory


def linear_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """Every linear layer but the head: module path -> (d_out, d_in)."""
    import torch

    return {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }


def regular(shape: tuple[int, int], salt: int) -> np.ndarray:
    """Numbers without a generator, so that no release of numpy changes them: multiples of 1/256, all bits exact."""
    count = shape[0] * shape[1]
    return (((np.arange(count, dtype=np.int64) * 7919 + salt * 104729) % 251 - 125) / 256).astype("<f4").reshape(shape)


def factors_for(shapes: dict[str, tuple[int, int]], rank: int = RANK) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """module -> (A, B)."""
    return {
        module: (regular((rank, d_in), 2 * i), regular((d_out, rank), 2 * i + 1))
        for i, (module, (d_out, d_in)) in enumerate(sorted(shapes.items()))
    }


def save_adapter(shapes: dict[str, tuple[int, int]], directory: Path, base: Path, **options: Any) -> Path:
    """A PEFT directory with an adapter on these layers; alpha is 6, so that the scaling is 2."""
    return write_peft(
        directory, factors_for(shapes), base_model_name_or_path=str(base), target_modules=sorted(shapes), **options
    )
