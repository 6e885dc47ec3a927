"""Memory: what mixing, running and refining take, added up from the shape of the base."""

from __future__ import annotations

from dataclasses import dataclass

from lorameta.bank.bank import VERIFY_BYTES
from lorameta.base_model.shape import Outline
from lorameta.machine.probe import Probe
from lorameta.machine.speed import LOGIT_BYTES

#: Share of a training row's tokens that are answers: logits and loss are formed for these alone.
ANSWERS = 0.25
#: Bytes an adapter's number takes in training, all float32: itself, its gradient, AdamW's two moments, the best so far.
TRAINED_BYTES = 20
#: Bytes of an interpreter with numpy that has read a bank's summaries, without torch.
MIXING_RUNTIME = 200_000_000
ITEMSIZE = {"float32": 4, "bfloat16": 2}
#: What the allocator holds beside what is in use, of all that the layers would keep: gaps between tensors that stay
#: are not given back. Measured with glibc on models of 1.1 and 1.6 billion parameters, without and with checkpointing.
HEAP = (0.4, 0.6)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose.

    Attributes
    ----------
    parts : dict of str to int
        ``programs`` (Python and its libraries), ``weights``, ``adapter`` or ``adapters``, ``cache`` (keys and values),
        ``computing`` (what a layer computes with), ``activations`` (what layers keep for the backward
        pass), ``logits``, ``heap`` (what the allocator does not give back), ``result`` (the new adapter).
    """

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())


def answers_of(batch_size: int, length: int) -> int:
    """Answer tokens of a step."""
    return max(1, round(ANSWERS * batch_size * length))


def to_mix(outline: Outline, adapters: int, numbers: int) -> MemoryEstimate:
    """To mix some adapters: no part of the base is read.

    Parameters
    ----------
    outline : Outline
    adapters : int
        How many are mixed.
    numbers : int
        In each of them.
    """
    size = 4 * numbers
    if adapters * size <= VERIFY_BYTES:  # read at once, as float32, and worked on in a second copy
        mixing = 2 * adapters * size
    else:  # a module at a time: the factors of all of them, stacked, in float64 beside float32
        mixing = 3 * 4 * adapters * round(outline.largest_pair * numbers / max(1, outline.adapter_parameters))
    return MemoryEstimate({"programs": MIXING_RUNTIME, "adapters": mixing, "result": 3 * size})


def to_run(outline: Outline, dtype: str, length: int, runtime: int, probe: Probe | None) -> MemoryEstimate:
    """To answer prompts of up to `length` tokens, one at a time.

    Parameters
    ----------
    outline : Outline
    dtype : {"float32", "bfloat16"}
    length : int
        Tokens in all.
    runtime : int
        Bytes of this process once torch, transformers and PEFT are imported.
    probe : Probe or None
        What a layer keeps in training: in inference it is let go layer by layer.
    """
    size = ITEMSIZE[dtype]
    remembered = min(length, outline.window or length)
    return MemoryEstimate(
        {
            "programs": runtime,
            "weights": outline.parameters * size,
            "cache": outline.layers * outline.cache_per_token * remembered * size,
            "computing": round(_layer(outline, dtype, 1, length, probe)),
        }
    )


def to_refine(
    outline: Outline,
    dtype: str,
    batch_size: int,
    length: int,
    runtime: int,
    probe: Probe | None,
    *,
    checkpointing: bool,
) -> MemoryEstimate:
    """To make a step of LoRA training: frozen weights in `dtype`, the adapter in float32.

    With `checkpointing` only the states between the layers are kept, and each layer's forward is done again in the
    backward pass. The other parameters are those of :func:`to_run`.
    """
    size = ITEMSIZE[dtype]
    layer = _layer(outline, dtype, batch_size, length, probe)
    kept = outline.layers * (batch_size * length * outline.width * size if checkpointing else layer)
    logits = LOGIT_BYTES * answers_of(batch_size, length) * outline.vocabulary
    return MemoryEstimate(
        {
            "programs": runtime,
            "weights": outline.parameters * size,
            "adapter": TRAINED_BYTES * outline.adapter_parameters,
            "activations": round(kept + (layer if checkpointing else layer / 2)),
            "logits": logits,
            "heap": round(HEAP[checkpointing] * outline.layers * layer),
        }
    )


def _layer(outline: Outline, dtype: str, batch_size: int, length: int, probe: Probe | None) -> float:
    """Return the bytes that a layer keeps for the backward pass: measured, else those of a layer with an MLP of three
    matrices."""
    if probe is not None:
        return batch_size * (probe.kept_fixed + probe.kept_per_token * length)
    numbers = 10 * outline.width + outline.layer_parameters / outline.width  # states, and those inside the MLP
    return 4 * numbers * batch_size * length
