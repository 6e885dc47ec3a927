"""An adapter on a model in memory for a while, without a copy of its weights: B A x is added to each layer's output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from lorameta.adapter.lora import LoraPair
from lorameta.errors import BankError

if TYPE_CHECKING:
    import torch


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
    added: list[tuple[Any, Update]] = []
    for name, pair in modules.items():
        weight = getattr(layers.get(name), "weight", None)
        if weight is None or tuple(weight.shape) != pair.shape:
            there = "not" if weight is None else str(tuple(weight.shape))
            problems.append(f"{name} {pair.shape}, which is {there} in the base")
            continue
        A = torch.from_numpy(pair.A).to(weight.device, weight.dtype)
        B = torch.from_numpy(pair.scaling * pair.B).to(weight.device, weight.dtype)
        added.append((layers[name], Update(A, B)))
    BankError.raise_if(problems, "the adapter was made for another base; it changes:")
    with ExitStack() as stack:
        for layer, update in added:
            stack.enter_context(layer.register_forward_hook(update))
        yield


class Update:
    """A forward hook that adds B A x, or ΔW x, to what a layer gives for x."""

    def __init__(self, A: torch.Tensor, B: torch.Tensor | None = None) -> None:
        self.A, self.B = A, B

    def __call__(self, module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Return the output of the layer with the update."""
        from torch.nn.functional import linear

        added = linear(inputs[0], self.A)
        return output + (added if self.B is None else linear(added, self.B))
