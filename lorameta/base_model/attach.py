"""An adapter on a model in memory for a while, without a copy of its weights: B A x is added to each layer's output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lorameta.adapter.lora import LoraPair
from lorameta.errors import BankError


@contextmanager
def attached(model: Any, modules: Mapping[str, LoraPair]) -> Iterator[None]:
    """Add an adapter to a model's layers within the context; the weights are not written to.

    Parameters
    ----------
    model : torch.nn.Module
    modules : mapping of str to LoraPair
        By path in the model; an adapter of the head works where the head is tied to the embedding as well, and leaves
        the embedding alone.

    Raises
    ------
    BankError
        The model lacks a layer, or it has another shape; all violations.
    """
    import torch

    layers = dict(model.named_modules())
    problems: list[str] = []
    added: list[tuple[Any, Any, Any]] = []
    for name, pair in modules.items():
        weight = getattr(layers.get(name), "weight", None)
        if weight is None or tuple(weight.shape) != pair.shape:
            there = "not" if weight is None else str(tuple(weight.shape))
            problems.append(f"{name} {pair.shape}, which is {there} in the base")
            continue
        A = torch.from_numpy(pair.A).to(weight.device, weight.dtype)
        B = torch.from_numpy(pair.scaling * pair.B).to(weight.device, weight.dtype)
        added.append((layers[name], A, B))
    BankError.raise_if(problems, "the adapter was made for another base; it changes:")
    handles = []
    try:
        for layer, A, B in added:
            handles.append(layer.register_forward_hook(_adding(A, B)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adding(A: Any, B: Any) -> Any:
    from torch.nn.functional import linear

    def hook(_: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        return output + linear(linear(inputs[0], A), B)

    return hook
