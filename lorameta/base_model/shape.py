"""The base model from its configuration alone: names and shapes of all its parameters, exact, without a weight."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from lorameta.base_model import ALL_LINEAR
from lorameta.base_model.config import libraries
from lorameta.errors import UsageError, first_line


@dataclass(frozen=True)
class Outline:
    """The shape of a base.

    Attributes
    ----------
    name : str
        What was asked for: a Hub id or a directory.
    revision : str or None
    architecture : str
        The class of transformers.
    config : Any
        The text model's configuration.
    parameters : int
        Of the whole base; shared ones count once.
    layers : int
    layer_parameters : int
        Mean over the layers.
    head_parameters : int
        Of the language-model head, shared with the embedding or not.
    width, vocabulary : int
    cache_per_token : int
        Numbers that a layer keeps of a token for those that follow (keys and values).
    window : int or None
        Tokens that all layers look back at most.
    attention_width : int
        Heads times their size: what attention multiplies for each pair of tokens.
    targets : tuple of str
        Last parts of the names of the layers that an adapter changes.
    adapter_parameters, adapter_layers : int
        Of an adapter on all of these, and how many they are.
    largest_pair : int
        Numbers in the largest A and B of one of them.
    dtype : str
        That its weights are published in, as the configuration says.
    blocks : dict of str to int
        Role in a quantized file -> parameters; see :func:`lorameta.doctor.quantized.sizes`.
    """

    name: str
    revision: str | None
    architecture: str
    config: Any = field(repr=False)
    parameters: int
    layers: int
    layer_parameters: int
    head_parameters: int
    width: int
    vocabulary: int
    cache_per_token: int
    window: int | None
    attention_width: int
    targets: tuple[str, ...]
    adapter_parameters: int
    adapter_layers: int
    largest_pair: int
    dtype: str
    blocks: dict[str, int]


def outline(config: Any, name: str, revision: str | None, targets: tuple[str, ...], rank: int) -> Outline:
    """Count what the base has, on torch's meta device: no memory is taken.

    Raises
    ------
    UsageError
        It has none of the targets; everything that it has is named. Or it is no causal language model.
    """
    model = meta_model(config, "float32")
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    stack = layer_stack(decoder)
    if stack is None or head is None:
        raise UsageError(f"{name} ({type(model).__name__}) has no stack of layers under a language-model head")
    layers = getattr(decoder, stack)
    whole, inner = linear_shapes(model, head=True), linear_shapes(model)
    linear = whole if set(targets) & (set(whole) - set(inner)) else inner  # the head is a target only by its full name
    chosen = chosen_paths(linear, targets, name)
    pairs = [rank * sum(linear[path]) for path in chosen]
    heads = getattr(config, "num_attention_heads", 1)
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    always = window is not None and (kinds == {"sliding_attention"} or config.model_type == "mistral")
    return Outline(
        name=name,
        revision=revision,
        architecture=type(model).__name__,
        config=config,
        parameters=sum(p.numel() for p in model.parameters()),
        layers=len(layers),
        layer_parameters=round(sum(p.numel() for p in layers.parameters()) / len(layers)),
        head_parameters=head.weight.numel(),
        width=config.hidden_size,
        vocabulary=head.weight.shape[0],
        cache_per_token=2 * (getattr(config, "num_key_value_heads", None) or heads) * size,
        window=window if always else None,
        attention_width=heads * size,
        targets=tuple(sorted({path.rpartition(".")[2] for path in chosen})),
        adapter_parameters=sum(pairs),
        adapter_layers=len(pairs),
        largest_pair=max(pairs),
        dtype=str(getattr(config, "dtype", None) or "bfloat16").removeprefix("torch."),
        blocks=_blocks(model, layers, head),
    )


def meta_model(config: Any, dtype: str) -> Any:
    """Return the base without memory: every tensor has a shape and no numbers."""
    import torch

    transformers = libraries()
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with torch.device("meta"):
            own = copy.deepcopy(config)  # building a model writes its dtype into the configuration
            return transformers.AutoModelForCausalLM.from_config(own, dtype=getattr(torch, dtype))
    except ValueError as error:
        raise UsageError(f"transformers has no causal language model for it: {first_line(error)}") from error
    finally:
        transformers.logging.set_verbosity(before)


def layer_stack(decoder: Any) -> str | None:
    """Name of the list of layers in a decoder: of its lists, the one with the most parameters."""
    import torch

    lists = {name: child for name, child in decoder.named_children() if isinstance(child, torch.nn.ModuleList)}
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in lists.items() if len(child)}
    return max(sizes, key=lambda name: sizes[name]) if sizes else None


def linear_shapes(model: Any, *, head: bool = False) -> dict[str, tuple[int, int]]:
    """(d_out, d_in) by path of each linear layer; the language-model head is only among them with `head`."""
    import torch
    from transformers.pytorch_utils import Conv1D

    left_out = None if head else model.get_output_embeddings()
    found = {}
    for path, module in model.named_modules():
        if module is left_out:
            continue
        if isinstance(module, torch.nn.Linear):
            found[path] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            found[path] = (module.weight.shape[1], module.weight.shape[0])
    return found


def chosen_paths(linear: dict[str, tuple[int, int]], targets: tuple[str, ...], name: str) -> list[str]:
    """Return the paths of the targets, by PEFT's rule: a name that the path is or ends with at a dot."""
    if targets == (ALL_LINEAR,):
        return sorted(linear)
    missing = [t for t in targets if not any(path == t or path.endswith(f".{t}") for path in linear)]
    if missing:
        known = ", ".join(sorted({path.rpartition(".")[2] for path in linear}))
        raise UsageError(f"{name} has no linear layer {', '.join(missing)}; it has {known}, or say {ALL_LINEAR}")
    return sorted(path for path in linear if any(path == t or path.endswith(f".{t}") for t in targets))


def _blocks(model: Any, layers: Any, head: Any) -> dict[str, int]:
    """Parameters by their role in llama.cpp's mixed types: what is kept in more bits than the rest."""
    blocks = {"norms": 0, "head": 0, "embedding": 0, "fine": 0, "coarse": 0}
    embedding, last = model.get_input_embeddings().weight, len(layers)
    more = [i < last // 8 or i >= 7 * last // 8 or (i - last // 8) % 3 == 2 for i in range(last)]
    position = {id(p): (i, path) for i, layer in enumerate(layers) for path, p in layer.named_parameters()}
    for p in model.parameters():
        layer, path = position.get(id(p), (None, ""))
        if p.dim() < 2:
            role = "norms"
        elif p is head.weight:
            role = "head"
        elif p is embedding:
            role = "embedding"
        else:
            fine = layer is not None and more[layer] and any(name in path for name in ("v_proj", "down_proj"))
            role = "fine" if fine else "coarse"
        blocks[role] += p.numel()
    return blocks
