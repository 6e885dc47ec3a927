"""What `lorameta doctor` forecasts for training bases of well-known shapes on this machine; no weights are needed."""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

from benchmarks.common import stamp
from benchmarks.refine.quality import place

#: name -> class of its configuration, and what in it is not the default.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2.5-0.5B": ("Qwen2Config", {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
    }),
    "Llama-3.2-1B": ("LlamaConfig", {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
    }),
    "Llama-3.2-3B": ("LlamaConfig", {
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24,
        "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
    }),
    "Mistral-7B": ("MistralConfig", {"sliding_window": None}),
}  # fmt: skip


def bases(arguments: argparse.Namespace) -> None:
    import torch
    import transformers

    from lorameta.doctor import examine

    found = {}
    for name, (kind, options) in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            getattr(transformers, kind)(dtype="bfloat16", max_position_embeddings=4096, **options).save_pretrained(
                folder
            )
            report = examine(folder, rank=8, targets=("all-linear",), batch_size=1, length=arguments.length)
        modes = next(capability for capability in report.capabilities.values() if capability.name == "refine").modes
        mode = next(mode for mode in modes if (mode.dtype, mode.checkpointing) == ("bfloat16", False))
        found[name] = {
            "parameters": report.base.parameters,
            "memory_gb": round(mode.needed / 1e9, 2),
            "seconds_a_step": mode.seconds.get("step"),
        }
        print(name, found[name], flush=True)
    result = {"bases": found, "tokens": arguments.length, "threads": torch.get_num_threads()}
    (place() / "bases.json").write_text(json.dumps(result | stamp(vars(arguments)), indent=1))
