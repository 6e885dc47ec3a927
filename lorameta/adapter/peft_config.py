"""PEFT's LoRA configuration: what it means for each module, what is refused and why.

The matching rules are those of PEFT 0.21 (``get_pattern_key``, ``check_target_module_exists``), so that an adapter
means here what it means there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Options that make an adapter something else than a sum of scaled B A on the plain base, each with the reason.
REFUSED = {
    "use_dora": "DoRA rescales the base weight as well",
    "lora_bias": "the bias of lora_B is not part of B A",
    "modules_to_save": "whole modules were trained beside the low-rank updates",
    "trainable_token_indices": "embedding rows were trained beside the low-rank updates",
    "target_parameters": "updates of bare parameters are not those of linear layers",
    "layer_replication": "the base's layers were repeated",
    "alora_invocation_tokens": "the update is active on some tokens only",
    "use_qalora": "its input is pooled before lora_A",
    "use_bdlora": "its factors are block-diagonal",
    "arrow_config": "it routes between adapters",
    "kasa_config": "it changes the base weights",
    "monteclora_config": "its weights are sampled",
}

#: Initialisations that leave the base weights alone. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take a part out of them.
_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")


@dataclass(frozen=True)
class LoraSettings:
    """What an ``adapter_config.json`` says about rank, scaling and targets."""

    rank: int
    alpha: float
    rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    base_model: str = ""
    base_revision: str | None = None

    def rank_of(self, module: str) -> int:
        """Rank of a module: that of the first matching ``rank_pattern``, else ``r``."""
        return int(_first_match(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """alpha / r of a module, or alpha / √r with rslora, both after the patterns."""
        rank, alpha = self.rank_of(module), _first_match(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank

    def targets(self, module: str) -> bool:
        """Whether PEFT would put this adapter on `module`."""
        if _named(self.exclude_modules, module):
            return False
        if self.target_modules is None or self.target_modules == "all-linear":
            return True
        if not _named(self.target_modules, module):
            return False
        if not self.layers_to_transform or isinstance(self.target_modules, str) or module in self.target_modules:
            return True
        patterns = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in self.layers_pattern] or [r".*?\.[^.]*\.(\d+)\."]
        found = next((match for pattern in patterns if (match := re.match(pattern, module))), None)
        return found is not None and int(found.group(1)) in self.layers_to_transform


def parse_settings(config: Any, problems: list[str]) -> LoraSettings | None:
    """Read an adapter configuration; None, with the reasons in `problems`, if it is not plain LoRA."""
    if not isinstance(config, dict):
        problems.append("is not a JSON object; get the adapter again")
        return None
    before = len(problems)
    if config.get("peft_type") != "LORA":
        problems.append(f"has peft_type {config.get('peft_type')!r}; only LORA adapters can be mixed")
    refused = [f"{key}: {reason}" for key, reason in REFUSED.items() if config.get(key)]
    if config.get("bias") not in (None, "none"):
        refused.append(f"bias {config['bias']!r}: biases of the base were trained beside the low-rank updates")
    problems += [f"uses {entry}; only plain LoRA can be mixed, leave this adapter out" for entry in refused]
    init = config.get("init_lora_weights", True)
    if isinstance(init, (list, dict)) or init not in _PLAIN_INITS:
        problems.append(
            f"has init_lora_weights {init!r}, which changes the base weights, so that B A is not the whole update; "
            "convert it with PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    rank = _number(config, "r", problems, whole=True)
    alpha = _number(config, "lora_alpha", problems)
    patterns = {}
    for key in ("rank_pattern", "alpha_pattern"):
        patterns[key] = config.get(key) or {}
        if not isinstance(patterns[key], dict):
            problems.append(f"has {key} {patterns[key]!r}; it must map names to numbers")
            continue
        for name in patterns[key]:
            _number(patterns[key], name, problems, whole=key == "rank_pattern", where=f"{key} ")
            _check_regex(name, key, problems)
    targets, exclude = (_names(config, key, problems) for key in ("target_modules", "exclude_modules"))
    layers = config.get("layers_to_transform")
    layers = [layers] if isinstance(layers, int) else layers or []
    layers_pattern = config.get("layers_pattern") or []
    layers_pattern = [layers_pattern] if isinstance(layers_pattern, str) else layers_pattern
    base, revision = config.get("base_model_name_or_path") or "", config.get("revision")
    if not (isinstance(base, str) and isinstance(revision, (str, type(None)))):
        problems.append("has a base_model_name_or_path or revision that is no text")
    if not (isinstance(layers, list) and all(isinstance(layer, int) for layer in layers)):
        problems.append(f"has layers_to_transform {layers!r}; it must be a list of whole numbers")
    for pattern in layers_pattern:
        _check_regex(pattern, "layers_pattern", problems)
    if len(problems) > before:
        return None
    return LoraSettings(
        int(rank), alpha, bool(config.get("use_rslora")), **patterns, target_modules=targets, exclude_modules=exclude,
        layers_to_transform=tuple(layers) or None, layers_pattern=tuple(layers_pattern), base_model=base,
        base_revision=revision,
    )  # fmt: skip


def _first_match(patterns: Mapping[str, float], module: str, default: float) -> float:
    """PEFT's rule: the first key that matches the end of the name, at a dot; else the key that is the name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return patterns.get(module, default)


def _named(names: tuple[str, ...] | str | None, module: str) -> bool:
    if not names:
        return False
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _names(config: Mapping[str, Any], key: str, problems: list[str]) -> tuple[str, ...] | str | None:
    value = config.get(key)
    if isinstance(value, str):
        _check_regex(value, key, problems)
        return value
    if value is None:
        return None
    if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        problems.append(f"has {key} {value!r}; it must be a list of names or a regular expression")
        return None
    return tuple(value)


def _number(values: Mapping[str, Any], key: str, problems: list[str], *, whole: bool = False, where: str = "") -> float:
    value = values.get(key)
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (whole and not 1 <= value <= 1 << 20):  # type: ignore[operator]
        kind = "a whole number of at least 1" if whole else "a number"
        problems.append(f"has {where}{key} = {value!r}; it must be {kind}")
        return 1.0
    return float(value)  # type: ignore[arg-type]


def _check_regex(pattern: Any, key: str, problems: list[str]) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        problems.append(f"has a {key} that is no regular expression, {pattern!r}: {error}")
