"""Seconds for the whole base, from what was measured on some of its layers and on its head."""

from __future__ import annotations

from lorameta.base_model.shape import Outline
from lorameta.machine.memory import answers_of
from lorameta.machine.probe import Probe, work
from lorameta.machine.speed import HeadProbe


def token_seconds(outline: Outline, probe: Probe, head: HeadProbe, length: int) -> float:
    """Return the seconds for one more token after `length`; what is read of the cache counts as if it were weights."""
    remembered = min(length, outline.window or length)
    cache = max(0, remembered - probe.longest) * outline.cache_per_token / outline.layer_parameters
    return outline.layers * probe.token * (1 + cache) + probe.outside + head.token


def prompt_seconds(outline: Outline, probe: Probe, head: HeadProbe, length: int) -> float:
    """Return the seconds until the first token after a prompt of `length`."""
    return outline.layers * probe.prompt.at(work(outline, length)) + probe.outside + head.token


def step_seconds(
    outline: Outline, probe: Probe, head: HeadProbe, batch_size: int, length: int, *, checkpointing: bool
) -> float:
    """Return the seconds for a step of LoRA training on `batch_size` rows of `length`."""
    size = batch_size * work(outline, length)
    layer = probe.step.at(size) + (probe.forward.at(size) if checkpointing else 0.0)
    return outline.layers * layer + head.loss.at(answers_of(batch_size, length))
