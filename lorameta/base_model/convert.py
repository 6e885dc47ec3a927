"""GGUF → a directory that transformers loads: the weights in float32, the configuration and the tokenizer.

llama.cpp keeps a whole model in one file. The weights are dequantized exactly; the rows of the query and key
projections, which llama.cpp stores in another order, are put back; the tokenizer is built from the tokens and merges
of the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.errors import BankError, requires
from lorameta.files.atomic import fresh_directory
from lorameta.files.links import user_path
from lorameta.files.tensors import layout, narrow

#: Names of llama.cpp within a block → those of transformers within a layer.
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
#: Pre-tokenizers of byte-level BPE by the name that llama.cpp gives them: whether digits are split one by one first.
_DIGITS = {"smollm": True, "gpt-2": False, "default": False}
#: Of ``tokenizer.ggml.token_type``: a control token, such as the end token.
_CONTROL = 3
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def convert_gguf(source: str | PathLike[str], directory: str | PathLike[str], *, dtype: str = "float32") -> Path:
    """Convert a GGUF file of the Llama architecture to a directory for ``AutoModelForCausalLM.from_pretrained``.

    Parameters
    ----------
    source : path
        The GGUF file.
    directory : path
        New, or one that an earlier conversion made. It appears as a whole or not at all.
    dtype : {"float32", "bfloat16"}
        Of the weights. float32 is exact; bfloat16 takes half the space and rounds them.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    BankError
        The file cannot be read, or is of another architecture or tokenizer.
    MissingExtraError
        The package `gguf` is not installed.
    """
    reader = open_gguf(source)
    from gguf.quants import dequantize

    def get(key: str, otherwise: Any = None) -> Any:
        field = reader.get_field(key)
        return otherwise if field is None else field.contents()

    config = _config(get, {tensor.name for tensor in reader.tensors}, dtype, source)
    tokenizer, tokenizer_config = _tokenizer(get, source)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}

    def matrix(tensor: Any) -> np.ndarray:
        found = dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.removesuffix(".weight").rpartition(".")[2]
        return interleave(found, heads[part]) if part in heads else found

    tensors = {_renamed(tensor.name, source): tensor for tensor in reader.tensors}
    shapes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    code = {"float32": "F32", "bfloat16": "BF16"}[dtype]
    with fresh_directory(directory, FILES) as fresh:
        header, _ = layout({name: (code, shape) for name, shape in shapes.items()})
        with (fresh / "model.safetensors").open("xb") as file:
            file.write(header)
            for name in sorted(tensors):
                file.write(narrow(matrix(tensors[name]), code).reshape(shapes[name]).data)
        generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
        generation |= {"pad_token_id": config["pad_token_id"]}
        for file_name, content in (
            ("config.json", config), ("generation_config.json", generation),
            ("tokenizer_config.json", tokenizer_config),
        ):  # fmt: skip
            (fresh / file_name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (fresh / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return user_path(directory).resolve()


def open_gguf(source: str | PathLike[str]) -> Any:
    """Return a reader of a GGUF file; BankError if it is none, MissingExtraError without the package."""
    with requires("gguf", "gguf", "Reading a GGUF file"):
        from gguf import GGUFReader
    try:
        return GGUFReader(source)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise BankError(f"{source} cannot be read as a GGUF file: {error}") from error


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put the rows of a query or key projection back into the order of transformers.

    llama.cpp rotates neighbouring pairs of a head's dimensions, transformers the first half against the second; its
    converter therefore reorders the rows of each head.
    """
    rows, columns = weight.shape
    return np.ascontiguousarray(weight.reshape(heads, -1, 2, columns).swapaxes(1, 2)).reshape(rows, columns)


def _config(get: Callable[..., Any], names: set[str], dtype: str, source: object) -> dict[str, Any]:
    """``config.json`` from the metadata."""
    kind = get("general.architecture")
    if kind != "llama":
        raise BankError(f"{source} holds a model of the architecture {kind!r}; only llama can be converted")

    def short(key: str) -> float:  # 1e-5 is stored as the float32 9.99999974e-06
        return float(str(np.float32(get(key))))

    width, heads = get("llama.embedding_length"), get("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(get("tokenizer.ggml.tokens")),
        "hidden_size": width,
        "intermediate_size": get("llama.feed_forward_length"),
        "num_hidden_layers": get("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("llama.attention.head_count_kv", heads),
        "head_dim": get("llama.rope.dimension_count", width // heads),
        "hidden_act": "silu",
        "max_position_embeddings": get("llama.context_length"),
        "rms_norm_eps": short("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": short("llama.rope.freq_base"),
        "tie_word_embeddings": "output.weight" not in names,
        "bos_token_id": get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": get("tokenizer.ggml.padding_token_id"),
        "dtype": dtype,
    }


def _tokenizer(get: Callable[..., Any], source: object) -> tuple[str, dict[str, Any]]:
    """``tokenizer.json`` and ``tokenizer_config.json`` of a byte-level BPE."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    kind, split = get("tokenizer.ggml.model"), get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or split not in _DIGITS:
        raise BankError(f"{source} has a tokenizer {kind!r} with the pre-tokenizer {split!r}, which is not known here")
    tokens = get("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in get("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    steps = [pre_tokenizers.Digits(individual_digits=True), level] if _DIGITS[split] else [level]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    types = get("tokenizer.ggml.token_type")
    special = [token for token, found in zip(tokens, types, strict=True) if found == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if get("tokenizer.ggml.add_bos_token", False):
        first = tokens[get("tokenizer.ggml.bos_token_id")]
        tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
            single=f"{first} $A", pair=f"{first} $A $B", special_tokens=[(first, tokens.index(first))]
        )
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": get("llama.context_length"),
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if (index := get(f"tokenizer.ggml.{key}_token_id")) is not None:
            config[f"{name}_token"] = tokens[index]
    if template := get("tokenizer.chat_template"):
        config["chat_template"] = template
    return tokenizer.to_str(), config


def _renamed(name: str, source: object) -> str:
    """Return the name in transformers of a tensor of llama.cpp."""
    stem, _, suffix = name.rpartition(".")
    if suffix == "weight" and stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.weight"
    parts = stem.split(".")
    if suffix == "weight" and len(parts) == 3 and parts[0] == "blk" and parts[2] in BLOCK:
        return f"model.layers.{parts[1]}.{BLOCK[parts[2]]}.weight"
    raise BankError(f"{source} holds a tensor {name}, which the Llama architecture does not have")
