"""What a training costs on this machine: bytes that a layer keeps, the quicker precision, the time of two steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorameta.base_model import ALL_LINEAR
from lorameta.base_model.batch import EncodedExample, collate, decoder_of
from lorameta.base_model.load import Base, cast
from lorameta.base_model.shape import layer_stack
from lorameta.machine.probe import kept_states
from lorameta.machine.ticking import ticking
from lorameta.training.adapted import lora_on
from lorameta.training.engine import backward, clip, losses_of, optimizer_of
from lorameta.training.rows import cut
from lorameta.training.settings import LoraTraining

if TYPE_CHECKING:
    from lorameta.training.prefix import Prefix

#: Layers that stand for all of them where precisions are compared and what a layer keeps is counted.
LAYERS = 2
#: How much quicker the unusual precision must be, so that chance does not decide.
MARGIN = 1.1
#: Seconds of measured steps below which they are repeated.
ENOUGH = 1.0


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes
    ----------
    token : float
        Seconds per token of the training rows.
    prefix : float
        Seconds per token for what is computed once, in the frozen layers whose states are kept.
    memory : int
        Largest resident memory of the process in these steps, in bytes; one of them had the longest rows.
    """

    token: float
    prefix: float
    memory: int


@contextmanager
def shallow(model: Any, layers: int = LAYERS, *, below: int = 0) -> Iterator[int]:
    """The model with some layers alone, those above `below`; yields how many times as many it has there."""
    decoder = decoder_of(model)
    name = layer_stack(decoder)
    if name is None:
        yield 1
        return
    stack = getattr(decoder, name)
    there = stack[below : below + layers]
    setattr(decoder, name, there)
    try:
        yield max(1, round((len(stack) - below) / len(there)))
    finally:
        setattr(decoder, name, stack)


def kept_bytes(model: Any, row: EncodedExample, pad: int, frozen: int = 0) -> float:
    """Return the bytes per token that all layers together keep for the backward pass, from a row that goes through some
    of them.

    Parameters
    ----------
    model : peft.PeftModel
        Training.
    row : EncodedExample
    pad : int
    frozen : int
        Layers at the bottom that keep nothing.
    """
    ids, attention, _ = collate([row], pad)
    with shallow(model, below=frozen) as times, kept_states(model) as alive:
        decoder_of(model)(input_ids=ids, attention_mask=attention)
        kept = sum(storage.nbytes() for storage in alive.values())
    return times * kept / len(row.ids)


def quicker(base: Base, rows: Sequence[EncodedExample], settings: LoraTraining, tokens: int) -> dict[str, float]:
    """Return the seconds of a micro-batch through a few layers and the head, in float32 and in bfloat16.

    Parameters
    ----------
    base : Base
        Without an adapter; a part of it is copied.
    rows : sequence of EncodedExample
        Of a usual micro-batch.
    """
    found: dict[str, float] = {}
    micro_batches = list(cut(rows, tokens=tokens))
    for dtype in ("float32", "bfloat16"):
        with shallow(base.model):
            model = copy.deepcopy(base.model)
        part = Base(cast(model, dtype), base.tokenizer, base.name)
        narrow = settings_for(settings, model)
        with without_cache(part.model), lora_on(part, narrow) as mounted:
            mounted.train()
            losses = losses_of(mounted, base.tokenizer.pad_token_id)
            times = []
            for _ in range(4):
                begun = time.perf_counter()
                backward(losses, micro_batches)
                times.append(time.perf_counter() - begun)
                if sum(times) > ENOUGH and len(times) > 1:
                    break
        found[dtype] = min(times[1:])
    return found


def settings_for(settings: LoraTraining, model: Any) -> LoraTraining:
    """Return the same settings with those of the targets that a part of the base has."""
    if settings.targets == (ALL_LINEAR,):
        return settings
    names = [name for name, _ in model.named_modules()]
    there = tuple(t for t in settings.targets if any(name == t or name.endswith(f".{t}") for name in names))
    return replace(settings, targets=there or (ALL_LINEAR,))


def measure(
    model: Any,
    rows: Sequence[EncodedExample],
    settings: LoraTraining,
    pad: int,
    usual: Sequence[int],
    longest: Sequence[int],
    *,
    tokens: int,
    prefix: Prefix | None = None,
) -> Pace:
    """Time two steps, one of the longest rows and one of usual ones; the parameters are as before.

    Parameters
    ----------
    usual, longest : sequence of int
        Indices of rows that go through the model at once.
    tokens : int
        Of a micro-batch.
    prefix : Prefix, optional
        Of frozen layers, mounted.
    """
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in parameters]
    optimizer = optimizer_of(parameters, 1e-12, 0.0)
    losses = losses_of(model, pad, prefix=prefix)
    model.train()

    def step(batch: Sequence[int]) -> float:
        begun = time.perf_counter()
        backward(losses, cut(rows, batch, most=settings.micro_batch_size, tokens=tokens))
        clip(parameters, settings.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begun

    with peak_memory() as peak:
        once = 0.0
        if prefix is not None:
            fresh = sorted({*longest, *usual})
            begun = time.perf_counter()
            prefix.give([rows[i] for i in fresh])
            once = (time.perf_counter() - begun) / sum(len(rows[i].ids) for i in fresh)
        first = step(longest)  # allocates, and tells what the largest step needs
        steps = [step(usual)]
        while sum(steps) < ENOUGH and first < ENOUGH and len(steps) < 5:
            steps.append(step(usual))
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
    steps.sort()
    seconds = steps[len(steps) // 2]
    return Pace(seconds / sum(len(rows[i].ids) for i in usual), once, peak())


@contextmanager
def without_cache(model: Any) -> Iterator[None]:
    """The model without keeping keys and values for a next token, which training has no use for."""
    before = model.config.use_cache
    model.config.use_cache = False
    try:
        yield
    finally:
        model.config.use_cache = before


@contextmanager
def checkpointed(model: Any) -> Iterator[None]:
    """The model with its layers computed twice, so that only the states between them are kept."""
    # transformers 5.23 gave it another name, and the old one warns
    name = "activation_checkpointing" if hasattr(model, "activation_checkpointing_enable") else "gradient_checkpointing"
    getattr(model, f"{name}_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()


@contextmanager
def peak_memory(every: float = 0.02) -> Iterator[Callable[[], int]]:
    """Watch the resident memory of this process; the yielded function tells the largest so far, in bytes."""
    import psutil

    process = psutil.Process()
    largest = 0

    def peak() -> int:
        nonlocal largest
        largest = max(largest, process.memory_info().rss)
        return largest

    peak()
    with ticking(peak, every):
        yield peak


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
