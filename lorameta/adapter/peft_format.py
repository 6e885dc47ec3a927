"""PEFT's LoRA directory: reading one with everything that is wrong with it, and the bytes of a new one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter import foreign
from lorameta.adapter.lora import LoraPair
from lorameta.adapter.patterns import TooLong
from lorameta.adapter.peft_config import LoraSettings, parse_settings
from lorameta.errors import UsageError
from lorameta.files import json_text, tensors
from lorameta.files.atomic import sha256
from lorameta.files.links import is_file, reason

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"
PREFIX = "base_model.model."

_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
_FOREIGN_KEYS = {
    "lora_magnitude_vector": "a DoRA magnitude",
    "lora_embedding_": "a LoRA of an embedding",
    "lora_B.bias": "a LoRA bias",
    "token_adapter": "trained embedding rows",
    "modules_to_save": "a whole trained module",
}


@dataclass(frozen=True)
class PeftAdapter:
    """What was read from a PEFT directory. `modules` is only to be trusted if no problem was noted."""

    modules: Mapping[str, LoraPair]
    settings: LoraSettings | None
    sha256: str
    config_sha256: str
    bytes: int


@dataclass(frozen=True)
class Halves:
    """The two tensors of a module, by name, and what they make: an update of shape (d_out, d_in)."""

    A: str
    B: str
    rank: int
    d_out: int
    d_in: int
    scaling: float


def read_directory(directory: Path, problems: list[str]) -> PeftAdapter:
    """Read a PEFT LoRA directory; everything that is wrong with it is appended to `problems`, file and remedy named."""
    if not (is_file(directory / CONFIG) and is_file(directory / WEIGHTS)) and (other := foreign.described(directory)):
        problems.append(other)
        return PeftAdapter({}, None, "", "", 0)
    settings, config_sha256 = read_config(directory, problems)
    notes: list[str] = []
    modules: dict[str, LoraPair] = {}
    digest, size = "", 0
    if is_file(directory / WEIGHTS):
        arrays, digest, size = tensors.read(directory / WEIGHTS, notes)
        modules = pair_up(arrays, settings, notes) if arrays else {}
    else:
        notes.append(missing_weights(directory))
    problems += [f"{WEIGHTS} {note}" for note in notes]
    return PeftAdapter(modules, settings, digest, config_sha256, size)


def missing_weights(directory: Path) -> str:
    """Return what to say of a directory without ``adapter_model.safetensors``."""
    if (other := foreign.described(directory)) is not None:
        return f"is missing: {other}"
    try:
        names = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        return f"cannot be read: {reason(error)}"
    if pickles := [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pth.lora", ".ckpt"))]:
        return (
            f"is missing and {pickles[0]} is a pickle, which can run code when it is loaded and is never read; "
            "load it with PEFT where you trust it and save it again with save_pretrained(..., safe_serialization=True)"
        )
    return "is missing; get the adapter again"


def read_config(directory: Path, problems: list[str]) -> tuple[LoraSettings | None, str]:
    """Return what the configuration of a PEFT directory says, and its SHA-256; None if it is not plain LoRA."""
    notes: list[str] = []
    config, digest = _read_json(directory / CONFIG, notes)
    settings = parse_settings(config, notes) if config is not None else None
    problems += [f"{CONFIG} {note}" for note in notes]
    return settings, digest


def parse_key(key: str) -> tuple[str, str] | None:
    """Module and half, "A" or "B", that a tensor's name in a PEFT file stands for; None if it is no such name."""
    match = _KEY.fullmatch(key.removeprefix(PREFIX)) if key.startswith(PREFIX) else None
    return None if match is None else (match["module"], match["half"])


def pair_up(
    arrays: Mapping[str, np.ndarray], settings: LoraSettings | None, problems: list[str]
) -> dict[str, LoraPair]:
    """Return the pairs that the tensors of a file make; see :func:`match_halves`."""
    halves = match_halves({key: array.shape for key, array in arrays.items()}, settings, problems)
    return {module: LoraPair(arrays[one.A], arrays[one.B], one.scaling) for module, one in halves.items()}


def match_halves(
    shapes: Mapping[str, tuple[int, ...]], settings: LoraSettings | None, problems: list[str]
) -> dict[str, Halves]:
    """Match the halves of each module and check them against the configuration; every violation is noted.

    Parameters
    ----------
    shapes : mapping of str to tuple
        Of each tensor, under its name in a PEFT file.
    settings : LoraSettings, optional
        Without it ranks are those of lora_A, and scalings 1.
    problems : list of str
        Is extended.

    Returns
    -------
    dict of str to Halves
        By module, sorted; only those that are sound.
    """
    if (other := foreign.emptied(shapes) or foreign.of_images(shapes)) is not None:
        problems.append(other)
        return {}
    halves: dict[str, dict[str, str]] = {}
    strange: dict[str, list[str]] = {}
    for key in shapes:
        match = _KEY.fullmatch(key.removeprefix(PREFIX))
        if match is None:
            kind = next((kind for part, kind in _FOREIGN_KEYS.items() if part in key), "no lora_A or lora_B of a layer")
            whole = foreign.whole_module(key)
            what = f"is {whole or f'{kind}; only plain LoRA of linear layers can be mixed'}"
            strange.setdefault(what, []).append(key)
        elif (wrapper := foreign.wrapped(key)) is not None:
            strange.setdefault(wrapper, []).append(key)
        elif not key.startswith(PREFIX):
            what = f"does not start with {PREFIX!r}, so PEFT would ignore it; rename the tensors"
            strange.setdefault(what, []).append(key)
        elif match["half"] in halves.setdefault(match["module"], {}):
            problems.append(f"{key} is there twice, under two adapter names; keep one")
        else:
            halves[match["module"]][match["half"]] = key
    for what, keys in strange.items():
        problems.append(f"{keys[0]} {what}" + f" (and {len(keys) - 1} more)" * (len(keys) > 1))
    try:
        modules = _checked(halves, shapes, settings, problems)
    except TooLong as error:
        problems.append(f"cannot be matched with {CONFIG}: {error}")
        return {}
    if not (halves or strange):
        problems.append("holds no lora_A and lora_B at all; get the adapter again")
    return modules


def _checked(
    halves: Mapping[str, Mapping[str, str]],
    shapes: Mapping[str, tuple[int, ...]],
    settings: LoraSettings | None,
    problems: list[str],
) -> dict[str, Halves]:
    """Return the modules of which both halves are there and fit each other and the configuration."""
    modules: dict[str, Halves] = {}
    for module, pair in sorted(halves.items()):
        if missing := {"A", "B"} - set(pair):
            problems.append(f"{module} has no lora_{missing.pop()}, only the other half; get the adapter again")
            continue
        A, B = shapes[pair["A"]], shapes[pair["B"]]
        rank = settings.rank_of(module) if settings else (A[0] if A else 0)
        if len(A) != 2 or len(B) != 2:
            problems.append(f"{module} has factors of {len(A)} and {len(B)} axes; only linear layers can be mixed")
        elif A[0] != rank or B[1] != rank or 0 in A or 0 in B:
            problems.append(f"{module} has lora_A {A} and lora_B {B}, but rank {rank} by the configuration")
        elif settings and not settings.targets(module):
            problems.append(f"{module} is not among the configuration's target_modules, so PEFT would leave it out")
        else:
            scaling = settings.scaling_of(module) if settings else 1.0
            modules[module] = Halves(pair["A"], pair["B"], rank, B[0], A[1], scaling)
    return modules


def config_bytes(modules: Mapping[str, LoraPair], base_model: str, revision: str | None) -> bytes:
    """``adapter_config.json`` of an adapter whose scaling is folded into its weights; read by PEFT 0.11 and later.

    The targets are full paths: names like ``q_proj`` would also claim layers that this adapter does not change.
    """
    rank = max(pair.rank for pair in modules.values())
    config: dict[str, Any] = {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "revision": revision,
        "target_modules": sorted(modules),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    try:
        return (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the base {base_model} or its modules have a name that cannot be written as text (UTF-8); rename it"
        ) from None


def weight_arrays(modules: Mapping[str, LoraPair]) -> dict[str, np.ndarray]:
    """Return the tensors of `modules` under PEFT's names, scaling folded into B, padded with zeros to the largest
    rank."""
    rank = max(pair.rank for pair in modules.values())
    arrays: dict[str, np.ndarray] = {}
    for module, pair in modules.items():
        pad = rank - pair.rank
        arrays[f"{PREFIX}{module}.lora_A.weight"] = np.pad(pair.A, ((0, pad), (0, 0)))
        arrays[f"{PREFIX}{module}.lora_B.weight"] = np.pad(np.float32(pair.scaling) * pair.B, ((0, 0), (0, pad)))
    return arrays


def _read_json(path: Path, problems: list[str]) -> tuple[Any, str]:
    try:
        data = json_text.read_bytes(path)
    except FileNotFoundError:
        problems.append("is missing; get the adapter again")
        return None, ""
    except OSError as error:
        problems.append(f"cannot be read: {reason(error)}")
        return None, ""
    except json_text.JsonError as error:
        problems.append(f"{error}; get the file again")
        return None, ""
    try:
        return json_text.decode(data), sha256(data)
    except json_text.JsonError as error:
        known = tensors.damage(data) if not data.lstrip().startswith(b"{") else None
        problems.append(known if known and "truncated" not in known else f"{error}; get the file again")
        return None, sha256(data)
