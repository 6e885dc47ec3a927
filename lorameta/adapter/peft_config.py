"""PEFT's LoRA configuration: what it means for each module, what is refused and why.

The matching rules are those of PEFT 0.21 (``get_pattern_key``, ``check_target_module_exists``), so that an adapter
means here what it means there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import repr as short
from typing import Any

from lorameta.adapter import foreign, patterns
from lorameta.errors import printable

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

#: The largest rank and alpha.
LARGEST = 1 << 20
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
    _matcher: patterns.Matcher = field(default_factory=patterns.Matcher, compare=False, repr=False)

    def rank_of(self, module: str) -> int:
        """Rank of a module: that of the first matching ``rank_pattern``, else ``r``; TooLong as for :meth:`targets`."""
        return int(self._first_match(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """alpha / r of a module, or alpha / √r with rslora, both after the patterns."""
        rank, alpha = self.rank_of(module), self._first_match(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank

    def targets(self, module: str) -> bool:
        """Check whether PEFT would put this adapter on `module`.

        Raises
        ------
        TooLong
            The regular expressions have taken too long, see :mod:`lorameta.adapter.patterns`.
        """
        if self._named(self.exclude_modules, self._excluded, module):
            return False
        if self.target_modules is None or self.target_modules == "all-linear":
            return True
        if not self._named(self.target_modules, self._targeted, module):
            return False
        if not self.layers_to_transform or isinstance(self.target_modules, str) or module in self._targeted:
            return True
        match = self._matcher.match
        if self.layers_pattern:
            tried = (match(pattern, patterns.LAYERS, module) for pattern in self.layers_pattern)
        else:
            tried = (match(name, "{}", module) for name in [r".*?\.[^.]*\.(\d+)\."])
        found = next((one for one in tried if one), None)
        return found is not None and int(found.group(1)) in self._layers

    @cached_property
    def _targeted(self) -> frozenset[str]:
        return frozenset(self.target_modules or ())

    @cached_property
    def _excluded(self) -> frozenset[str]:
        return frozenset(self.exclude_modules or ())

    @cached_property
    def _layers(self) -> frozenset[int]:
        return frozenset(self.layers_to_transform or ())

    def _first_match(self, values: Mapping[str, float], module: str, default: float) -> float:
        """PEFT's rule: the first key that matches the end of the name, at a dot; else the key that is the name."""
        for pattern, value in values.items():
            if self._matcher.match(pattern, patterns.KEY, module):
                return value
        return values.get(module, default)

    def _named(self, names: tuple[str, ...] | str | None, listed: frozenset[str], module: str) -> bool:
        """Check whether an expression matches the whole name, or a list has the name or its end after a dot."""
        if not names:
            return False
        if isinstance(names, str):
            return self._matcher.match(names, patterns.WHOLE, module) is not None
        return module in listed or any(module[i + 1 :] in listed for i, letter in enumerate(module) if letter == ".")


def parse_settings(config: Any, problems: list[str]) -> LoraSettings | None:
    """Read an adapter configuration; None, with the reasons in `problems`, if it is not plain LoRA."""
    if not isinstance(config, dict):
        problems.append("is not a JSON object; get the adapter again")
        return None
    before = len(problems)
    if foreign.is_mlx(config):
        problems.append(f"is of another tool: {foreign.mlx()}")
        return None
    if config.get("peft_type") != "LORA":
        problems.append(f"has peft_type {short(config.get('peft_type'))}; only LORA adapters can be mixed")
    refused = [f"{key}: {reason}" for key, reason in REFUSED.items() if config.get(key)]
    if config.get("bias") not in (None, "none"):
        refused.append(f"bias {short(config['bias'])}: biases of the base were trained beside the low-rank updates")
    problems += [
        f"uses {entry}; only plain LoRA can be mixed or exported: leave it out, or merge it with PEFT"
        for entry in refused
    ]
    init = config.get("init_lora_weights", True)
    if isinstance(init, (list, dict)) or init not in _PLAIN_INITS:
        problems.append(
            f"has init_lora_weights {short(init)}, which changes the base weights, so that B A is not the whole "
            "update; convert it with PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    rank = _number(config, "r", problems, whole=True)
    alpha = _number(config, "lora_alpha", problems)
    values: dict[str, Any] = {}
    for key in ("rank_pattern", "alpha_pattern"):
        values[key] = config.get(key) or {}
        if not isinstance(values[key], dict) or len(values[key]) > patterns.MAX_NAMES:
            problems.append(
                f"has {key} {short(values[key])}; it must map names to numbers, {patterns.MAX_NAMES} at most"
            )
            continue
        for name in values[key]:
            _number(values[key], name, problems, whole=key == "rank_pattern", where=f"{key} ")
            _check_pattern(name, key, patterns.KEY, problems)
    targets, exclude = (_names(config, key, problems) for key in ("target_modules", "exclude_modules"))
    layers = config.get("layers_to_transform")
    layers = [layers] if isinstance(layers, int) else layers or []
    layers_pattern = config.get("layers_pattern") or []
    layers_pattern = [layers_pattern] if isinstance(layers_pattern, str) else layers_pattern
    base, revision = config.get("base_model_name_or_path") or "", config.get("revision")
    if not (_is_name(base) and (revision is None or _is_name(revision))):
        problems.append("has a base_model_name_or_path or revision that is no text on one line")
    if not (isinstance(layers, list) and all(isinstance(layer, int) for layer in layers)):
        problems.append(f"has layers_to_transform {short(layers)}; it must be a list of whole numbers")
    if not isinstance(layers_pattern, list) or len(layers_pattern) > 100:
        problems.append(f"has layers_pattern {short(layers_pattern)}; it must be a text, or a list of at most 100")
        layers_pattern = []
    for pattern in layers_pattern:
        _check_pattern(pattern, "layers_pattern", patterns.LAYERS, problems)
    if len(problems) > before:
        return None
    return LoraSettings(
        int(rank), alpha, bool(config.get("use_rslora")), **values, target_modules=targets, exclude_modules=exclude,
        layers_to_transform=tuple(layers) or None, layers_pattern=tuple(layers_pattern), base_model=base,
        base_revision=revision,
    )  # fmt: skip


def _is_name(value: Any) -> bool:
    """Check whether a value can be a name or a path: text without control characters, of a length that systems take."""
    return isinstance(value, str) and len(value) <= 4096 and printable(value) == value and value.isprintable()


def _names(config: Mapping[str, Any], key: str, problems: list[str]) -> tuple[str, ...] | str | None:
    value = config.get(key)
    if isinstance(value, str):
        _check_pattern(value, key, patterns.WHOLE, problems)
        return value
    if value is None:
        return None
    if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        problems.append(f"has {key} {short(value)}; it must be a list of names or a regular expression")
        return None
    return tuple(value)


def _number(values: Mapping[str, Any], key: str, problems: list[str], *, whole: bool = False, where: str = "") -> float:
    value = values.get(key)
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not good or not (1 if whole else -LARGEST) <= value <= LARGEST:  # type: ignore[operator]
        kind = "a whole number of at least 1" if whole else "a number"
        problems.append(f"has {where}{key[:100]} = {short(value)}; it must be {kind}, and {LARGEST} at most")
        return 1.0
    return float(value)  # type: ignore[arg-type]


def _check_pattern(pattern: Any, key: str, template: str, problems: list[str]) -> None:
    if (why := patterns.problem(pattern, template)) is not None:
        problems.append(f"has a {key} that is no regular expression of module names, {short(pattern)}: {why}")
