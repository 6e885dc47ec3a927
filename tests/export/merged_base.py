"""A base and an adapter in numpy alone, as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"
SHAPES = {UP: (12, 8), DOWN: (8, 12)}


def write_base(directory: Path, *, code: str = "F32", seed: int = 0, extra: dict | None = None, **config: Any) -> Path:
    """Something with the files of a base, in numpy alone; as bfloat16 through torch."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    arrays = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    arrays |= {"model.embed_tokens.weight": rng.normal(size=(20, 8)).astype(np.float32), **(extra or {})}
    if code == "BF16":
        import torch
        from safetensors.torch import save_file as save_torch

        save_torch({k: torch.tensor(v).bfloat16() for k, v in arrays.items()}, directory / "model.safetensors")
    else:
        kind = {"F32": np.float32, "F16": np.float16}[code]
        cast = {k: v.astype(kind) if v.dtype == np.float32 else v for k, v in arrays.items()}
        save_file(cast, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps({"model_type": "tiny", "dtype": "float32", **config}))
    (directory / "tokenizer.json").write_text('{"a": 1}')
    return directory
