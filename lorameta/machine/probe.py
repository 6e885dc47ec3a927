"""Some layers of the base in their true shape, with random numbers: how long they take, and what they keep."""

from __future__ import annotations

import copy
import gc
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lorameta.base_model.shape import Outline, layer_stack, meta_model
from lorameta.machine.timing import Line, measure, median_seconds

#: Bytes of layers to be measured together, so that they do not stay in the processor's caches.
_ENOUGH = 256 << 20
#: Numbers that random weights are tiled from.
_TILE = 1 << 20


@dataclass(frozen=True)
class Probe:
    """What one decoder layer costs in one dtype, with an adapter where that matters.

    Attributes
    ----------
    dtype : str
    layers : int
        Measured together.
    share : float
        Of a true layer's parameters in the layer that was measured: 1, or less where a whole one did not fit in memory.
    token : float
        Seconds for one more token.
    outside : float
        Seconds of the decoder around its layers, for one token.
    prompt : Line
        Seconds for a row without gradients, by :func:`work`.
    forward, step : Line
        Seconds for a row in training: forward alone, and forward, backward and the optimizer's part.
    kept_fixed, kept_per_token : float
        Bytes that a layer keeps for the backward pass: for any row, and for each token.
    longest : int
        Tokens of the longest row that was trained on.
    """

    dtype: str
    layers: int
    share: float
    token: float
    outside: float
    prompt: Line
    forward: Line
    step: Line
    kept_fixed: float
    kept_per_token: float
    longest: int


def work(outline: Outline, tokens: int) -> float:
    """Multiplications of a layer for a row of `tokens`: its weights, and attention over half of all pairs."""
    return outline.layer_parameters * float(tokens) + outline.attention_width * float(tokens) ** 2


def probe(outline: Outline, dtype: str, *, rank: int, length: int, memory: int, seconds: float) -> Probe:
    """Build as many layers as are needed to be measured, time them, and forget them.

    Parameters
    ----------
    outline : Outline
    dtype : {"float32", "bfloat16"}
    rank : int
        Of the adapter on ``outline.targets``.
    length : int
        Tokens of the row that is asked about; shorter ones are measured where time is short.
    memory : int
        Bytes that may be taken.
    seconds : float
        For the timing, about.

    Raises
    ------
    MemoryError
        Not even a layer of an eighth of the width of the true MLP fits in `memory`.
    """
    import torch

    config, layers, share = fitting(outline, getattr(torch, dtype).itemsize, memory)
    model = meta_model(config, dtype)
    decoder = model.get_decoder()
    stack = str(layer_stack(decoder))
    whole = getattr(decoder, stack)
    setattr(decoder, stack, torch.nn.ModuleList(whole[:layers]))
    _materialise(decoder, skip=model.get_input_embeddings())
    model.requires_grad_(False).eval()
    longest = _longest(outline, length, memory, layers, getattr(torch, dtype).itemsize)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's and transformers' advice to developers
            token, outside, prompt = _inference(decoder, stack, outline, dtype, longest, 0.35 * seconds)
            forward, step, fixed, slope, longest = _training(model, outline, dtype, rank, longest, 0.65 * seconds)
    finally:
        del model, decoder, whole
        gc.collect()
    per_layer = 1 / layers / share
    return Probe(
        dtype, layers, share, token * per_layer, outside, prompt.scaled(per_layer), forward.scaled(per_layer),
        step.scaled(per_layer), fixed / layers, slope / layers / share, longest,
    )  # fmt: skip


def fitting(outline: Outline, itemsize: int, memory: int) -> tuple[Any, int, float]:
    """Return the configuration to build, how many of its layers, and which share of a true layer that is."""
    usable = 0.6 * memory  # the rest is for what the layers compute
    size = outline.layer_parameters * itemsize
    if size <= usable:
        wanted = min(outline.layers, -(-_ENOUGH // size))
        return outline.config, max(1, min(wanted, int(usable // size))), 1.0
    for divisor in (2, 4, 8):
        config = copy.deepcopy(outline.config)
        if not getattr(config, "intermediate_size", None):
            break
        config.intermediate_size //= divisor
        decoder = meta_model(config, "float32").get_decoder()
        first = getattr(decoder, str(layer_stack(decoder)))[0]
        parameters = sum(p.numel() for p in first.parameters())
        if parameters * itemsize <= usable:
            return config, 1, parameters / outline.layer_parameters
    raise MemoryError(f"a layer of {size / 1e9:.1f} GB does not fit into the {memory / 1e9:.1f} GB that may be taken")


def _longest(outline: Outline, length: int, memory: int, layers: int, itemsize: int) -> int:
    """Return the tokens that may be computed with in the rest of the memory; sixteen numbers of a token's width are
    kept."""
    each = 64.0 * layers * (outline.width + outline.layer_parameters / outline.width / 4)
    return max(8, min(length, int((memory - layers * outline.layer_parameters * itemsize) / each)))


def _materialise(module: Any, *, skip: Any) -> None:
    """Give every tensor memory and harmless random numbers; what they are does not change the time."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tile = (torch.rand(_TILE, generator=generator) - 0.5) * 0.05
    for part in module.modules():
        if part is skip:
            continue
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = torch.nn.Parameter(_filled(p, tile), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = _filled(buffer, tile)


def _filled(empty: Any, tile: Any) -> Any:
    import torch

    full = torch.empty(empty.shape, dtype=empty.dtype)
    if not full.is_floating_point():
        return full.zero_()
    flat, tile = full.view(-1), tile.to(full.dtype)
    for start in range(0, flat.numel(), _TILE):
        part = flat[start : start + _TILE]
        part.copy_(tile[: part.numel()])
    return full


def _inference(
    decoder: Any, stack: str, outline: Outline, dtype: str, longest: int, seconds: float
) -> tuple[float, float, Line]:
    import torch

    cache: list[Any] = [None]

    def prompt(tokens: int) -> None:
        cache[0] = decoder(inputs_embeds=_states(outline, dtype, tokens), use_cache=True).past_key_values

    def token() -> None:
        decoder(inputs_embeds=one, past_key_values=cache[0], use_cache=True)

    one = _states(outline, dtype, 1)
    with torch.no_grad():
        line = measure(prompt, longest, 0.7 * seconds, work=partial(work, outline))
        together = median_seconds(token, seconds=0.3 * seconds)
        layers = getattr(decoder, stack)
        setattr(decoder, stack, torch.nn.ModuleList())
        outside = median_seconds(token, seconds=0.1)
        setattr(decoder, stack, layers)
    return max(together - outside, 0.0), outside, line


def _training(
    model: Any, outline: Outline, dtype: str, rank: int, longest: int, seconds: float
) -> tuple[Line, Line, float, float, int]:
    """Times of forward, and of forward with backward and optimizer; bytes kept: fixed, a token; the longest row."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules=list(outline.targets))
    adapted: Any = get_peft_model(model, config).train()
    decoder = adapted.get_base_model().get_decoder()
    parameters = [p for p in decoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    kept: dict[int, int] = {}
    forward: dict[int, float] = {}

    def run(tokens: int) -> None:
        # In a deep model the states below a layer need gradients too, except under the lowest.
        states = _states(outline, dtype, tokens).requires_grad_()
        begun = time.perf_counter()
        with kept_states(decoder) as alive:
            out = decoder(inputs_embeds=states, use_cache=False).last_hidden_state
        forward[tokens] = min(time.perf_counter() - begun, forward.get(tokens, math.inf))
        kept[tokens] = sum(storage.nbytes() for storage in alive.values())
        out.backward(torch.ones_like(out))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step = measure(run, longest, seconds, work=partial(work, outline))
    ahead = Line(step.sizes, tuple(forward.values()))
    (short, less), *_, (long, more) = [*kept.items(), *kept.items()]
    slope = (more - less) / (long - short) if long > short else more / long
    return ahead, step, max(more - slope * long, 0.0), slope, long


@contextmanager
def kept_states(model: Any) -> Iterator[dict[int, Any]]:
    """Collect what autograd keeps for the backward pass, except the weights: storages by address."""
    import torch

    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    alive: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield alive


def _states(outline: Outline, dtype: str, tokens: int) -> Any:
    import torch

    return torch.randn(1, tokens, outline.width).to(getattr(torch, dtype))
