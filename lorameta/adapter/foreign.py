"""Directories that hold an adapter, but not as PEFT saves one: what they are, and how to convert them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "module.base_model.": "DistributedDataParallel",
}
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")


def described(directory: Path) -> str | None:
    """Return what a directory without PEFT's two files holds instead, with the remedy; None if nothing is known."""
    try:
        entries = sorted(directory.iterdir())
        names = {entry.name for entry in entries}
        below = [entry.name for entry in entries if (entry / CONFIG).is_file()]
    except OSError:
        return None
    if "adapters.safetensors" in names:
        return mlx()
    parts = sorted(name for name in names if re.fullmatch(r"adapter_model-\d+-of-\d+\.safetensors", name))
    if parts or f"{WEIGHTS}.index.json" in names:
        return (
            f"its weights are in {len(parts)} part{'s' * (len(parts) != 1)} ({', '.join(parts[:3]) or 'none here'})"
            ", which PEFT does not read either: put them together, as with safetensors.torch.load_file of each and one "
            f"save_file into {WEIGHTS}"
        )
    if below and CONFIG not in names:
        steps = [match for name in below if (match := _CHECKPOINT.fullmatch(name))]
        best = max(steps, key=lambda match: int(match[1]))[0] if steps else below[0]
        what = "the output of a training: its adapters are in" if steps else "no adapter itself, but holds some in"
        return f"it is {what} {', '.join(below[:6])}; name the one that is meant, as {directory / best}"
    if "pytorch_lora_weights.safetensors" in names:
        return "it is an adapter of diffusers, for a model of images; only adapters of language models can be mixed"
    if WEIGHTS not in names and (gguf := sorted(name for name in names if name.endswith(".gguf"))):
        return f"{gguf[0]} is llama.cpp's form of an adapter or model: name the PEFT directory that it was made from"
    if CONFIG not in names and {"model.safetensors", "model.safetensors.index.json"} & names:
        return "it holds a whole model, not an adapter: a model that was merged or fully trained cannot be taken apart"
    return None


def of_images(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return what is said of a file of kohya's scripts; None if it is none."""
    if not any(".lora_down." in key for key in shapes):
        return None
    return (
        "holds lora_down and lora_up, as kohya's scripts save them for models of images; only adapters of language "
        "models can be mixed"
    )


def wrapped(key: str) -> str | None:
    """Return what is said of a name with a part that a wrapper of the model put into it; None if there is none."""
    part = next((part for part in _WRAPPERS if part in key), None)
    if part is None:
        return None
    return (
        f"has {part} in its name, which {_WRAPPERS[part]} puts there, so PEFT would ignore it: save the adapter of the "
        "model that was wrapped, or take that part out of the names"
    )


def mlx() -> str:
    """Return what is said of adapters of MLX."""
    return (
        "it is an adapter of MLX (mlx-lm): transpose its lora_a and lora_b, name them "
        "base_model.model.<layer>.lora_A.weight and .lora_B.weight, and write an adapter_config.json of PEFT with "
        "lora_alpha = scale times rank"
    )


def is_mlx(config: Any) -> bool:
    """Check whether a configuration is that of mlx-lm."""
    return isinstance(config, Mapping) and "peft_type" not in config and "fine_tune_type" in config


def emptied(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return what is said of a file whose tensors were saved before they were gathered; None if they are whole."""
    empty = [key for key, shape in shapes.items() if 0 in shape]
    if not empty:
        return None
    return (
        f"holds {len(empty)} empty tensors of {len(shapes)}, as DeepSpeed ZeRO-3 saves them when the weights are "
        "spread over processes: save again with stage3_gather_16bit_weights_on_model_save, or make the weights from "
        "the checkpoint with its zero_to_fp32.py"
    )


def whole_module(key: str) -> str | None:
    """Return what is said of a saved embedding or head; None for other tensors."""
    if "lora_" in key or "modules_to_save" in key:
        return None
    if re.search(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in|lm_head|embed_out|output)\.weight$", key):
        return (
            "no lora_A or lora_B, but a whole embedding or head, which PEFT saves beside the adapter when the "
            "vocabulary was changed: if it was not trained, save the adapter again with save_embedding_layers=False; "
            "if it was, merge the adapter into its base with PEFT"
        )
    return None
