"""A base with an adapter on it: fresh factors put on, a common A set and frozen, the result read out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from lorameta.adapter import LoraPair
from lorameta.adapter.peft_format import PREFIX
from lorameta.base_model import ALL_LINEAR
from lorameta.base_model.load import Base
from lorameta.errors import UsageError
from lorameta.training.settings import LoraTraining


@contextmanager
def lora_on(base: Base, settings: LoraTraining) -> Iterator[Any]:
    """The base with fresh LoRA factors, A drawn from the seed alone and B zero; without them again afterwards."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)  # right before A is drawn, so that nothing else moves it
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        target_modules=ALL_LINEAR if settings.targets == (ALL_LINEAR,) else list(settings.targets),
        lora_dropout=settings.dropout,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's advice on models that were adapted before; they are clean
        try:
            model: Any = get_peft_model(base.model, config)
        except ValueError as error:
            raise UsageError(f"no adapter can be put on {base.name}: {error}") from error
    try:
        yield model
    finally:
        base.model = model.unload().eval()
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config


def set_a(model: Any, initial: Mapping[str, np.ndarray]) -> None:
    """Put a given A into every LoRA module of a model; UsageError if one is missing or has another shape."""
    import torch

    with torch.no_grad():
        for name, p in model.named_parameters():
            module, _, half = name.removeprefix(PREFIX).partition(".lora_")
            if half[:1] != "A":
                continue
            found = initial.get(module)
            if found is None or found.shape != tuple(p.shape):
                what = "none" if found is None else f"one of shape {found.shape}"
                raise UsageError(f"the initial A of {module} must have the shape {tuple(p.shape)}; there is {what}")
            p.copy_(torch.from_numpy(np.ascontiguousarray(found)))


def freeze_a(model: Any) -> None:
    """Leave B alone to be trained."""
    for name, p in model.named_parameters():
        if ".lora_A." in name:
            p.requires_grad_(False)


def pairs_of(parameters: dict[str, Any], settings: LoraTraining) -> dict[str, LoraPair]:
    """Return the factors by module, as they stand in the model."""
    found: dict[str, dict[str, Any]] = {}
    for name, p in parameters.items():
        module, _, half = name.removeprefix(PREFIX).partition(".lora_")
        found.setdefault(module, {})[half[0]] = p.detach().float().numpy().copy()
    scaling = settings.alpha / settings.rank
    return {module: LoraPair(pair["A"], pair["B"], scaling) for module, pair in found.items()}
