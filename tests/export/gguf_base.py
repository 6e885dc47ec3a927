"""A base model as GGUF in float32, for the tests that run llama.cpp; users get theirs ready made or convert it.

llama.cpp's converter is in no package and knows tokenizers by name only, so that it cannot take the embedded base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.export.gguf import ARCHITECTURES


def write_gguf_base(model: Any, path: Path, tokenizer: Path | None = None) -> Path:
    """Write a transformers model; `tokenizer` is a byte-level BPE ``tokenizer.json`` that splits digits."""
    import gguf

    config = model.config
    name, permuted = ARCHITECTURES[type(model).__name__]
    kind = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[name]
    writer = gguf.GGUFWriter(path, name)
    heads, size = config.num_attention_heads, getattr(config, "head_dim", None)
    size = size or config.hidden_size // heads
    rope = config.rope_parameters
    rotary = int(size * rope.get("partial_rotary_factor", 1.0))
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(rotary)
    writer.add_rope_freq_base(rope["rope_theta"])
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(config.layer_norm_eps)
    if name == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    _add_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.detach().float().numpy()
        if permuted and key.endswith(("q_proj.weight", "k_proj.weight")):
            array = permute(array, heads if ".q_proj" in key else config.num_key_value_heads)
        if name == "gemma" and key.endswith("norm.weight"):
            array = array + np.float32(1)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permute(weights: np.ndarray, n_head: int) -> np.ndarray:
    """As in llama.cpp's converter (``LlamaModel.permute``)."""
    return (
        weights.reshape(n_head, 2, weights.shape[0] // n_head // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def _add_tokenizer(writer: Any, tokenizer: Path | None) -> None:
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
        return
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    special = {token["content"] for token in content["added_tokens"] if token["special"]}
    tokens = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")  # every digit by itself, then GPT-2's expression
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))
    writer.add_add_bos_token(True)
