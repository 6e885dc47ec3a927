"""Adapters side by side: their mixture as hooks on the base's layers, without a copy of any weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.base_model.attach import Update
from lorameta.errors import BankError

if TYPE_CHECKING:
    import torch

    from lorameta.adapter import Adapter, LoraPair


@dataclass(frozen=True)
class Shared:
    """A module whose A is the same in all k adapters: Σ wᵢ sᵢ Bᵢ is one matrix of their rank, exactly."""

    A: torch.Tensor  # (r, d_in)
    B: torch.Tensor  # (k, d_out, r), scaled

    def update(self, weights: np.ndarray) -> Update | None:
        """Return the low-rank update of a mixture; None where it is 0."""
        if not weights.any():
            return None
        only = np.flatnonzero(weights)
        if len(only) == 1:
            return Update(self.A, self.B[only[0]] * float(weights[only[0]]))
        mixed = self.B.new_tensor(weights) @ self.B.flatten(1)
        return Update(self.A, mixed.view(self.B.shape[1:]))


@dataclass(frozen=True)
class Stacked:
    """A module whose A's differ: all A one below the other, all B side by side, the weights between them."""

    A: torch.Tensor  # (Σ r, d_in)
    B: torch.Tensor  # (d_out, Σ r)
    scaling: np.ndarray  # (Σ r,)
    owner: np.ndarray  # (Σ r,), the adapter of a column

    def update(self, weights: np.ndarray) -> Update | None:
        """Return the low-rank update of a mixture, or the dense one where that is cheaper; None where it is 0."""
        used = weights[self.owner] != 0
        if not used.any():
            return None
        B = self.B * self.A.new_tensor(self.scaling * weights[self.owner])
        A, B = (self.A, B) if used.all() else (self.A[used], B[:, used])
        (rank, d_in), d_out = A.shape, B.shape[0]
        return Update(B @ A) if rank * (d_in + d_out) > d_in * d_out else Update(A, B)


class Factors:
    """k adapters of a base that is in memory.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Its weights are not written to.
    adapters : sequence of Adapter
        Ranks, scalings and modules may differ.

    Raises
    ------
    BankError
        An adapter changes what the base does not have, or in another shape; all violations.
    """

    def __init__(self, model: Any, adapters: Sequence[Adapter]) -> None:
        self.model = model
        self.count = len(adapters)
        self.modules = _side_by_side(model, adapters)

    @contextmanager
    def attached(self, weights: np.ndarray) -> Iterator[None]:
        """A context in which the base has the update Σ wᵢ ΔWᵢ."""
        with ExitStack() as stack:
            for name, factors in self.modules.items():
                if (update := factors.update(weights)) is not None:
                    stack.enter_context(self.model.get_submodule(name).register_forward_hook(update))
            yield


def _side_by_side(model: Any, adapters: Sequence[Adapter]) -> dict[str, Shared | Stacked]:
    import torch

    layers = dict(model.named_modules())
    problems: list[str] = []
    found: dict[str, Shared | Stacked] = {}
    for module in sorted({name for adapter in adapters for name in adapter.modules}):
        weight = getattr(layers.get(module), "weight", None)
        shape = None if weight is None else tuple(weight.shape)
        if shape is not None and type(layers[module]).__name__ == "Conv1D":  # of GPT-2, stored transposed
            shape = shape[::-1]
        having = [index for index, adapter in enumerate(adapters) if module in adapter.modules]
        pairs = [adapters[index].modules[module] for index in having]
        bad = [(index, pair) for index, pair in zip(having, pairs, strict=True) if pair.shape != shape]
        for index, pair in bad:
            name = adapters[index].name or f"adapter {index}"
            problems.append(f"{name}: it changes {module} {pair.shape}, which is {shape or 'not'} in the base")
        if bad or weight is None:
            continue

        def placed(array: np.ndarray, like: torch.Tensor = weight) -> torch.Tensor:
            return torch.from_numpy(np.array(array)).to(like.device, like.dtype)

        if len(pairs) == len(adapters) and common_A(pairs):
            B = np.stack([np.asarray(pair.scaling * pair.B, dtype=np.float32) for pair in pairs])
            found[module] = Shared(placed(pairs[0].A), placed(B))
            continue
        ranks = [pair.rank for pair in pairs]
        A, B = np.concatenate([pair.A for pair in pairs]), np.concatenate([pair.B for pair in pairs], axis=1)
        scaling = np.repeat([pair.scaling for pair in pairs], ranks)
        found[module] = Stacked(placed(A), placed(B), scaling, np.repeat(having, ranks))
    BankError.raise_if(problems, "adapters for another base than the one in memory:")
    return found


def common_A(pairs: Sequence[LoraPair]) -> bool:
    """Check whether all pairs of a module have the very same A."""
    first = pairs[0].A
    return all(pair.A is first or np.array_equal(pair.A, first) for pair in pairs[1:])


def shared_A(adapters: Sequence[Adapter]) -> Mapping[str, np.ndarray] | None:
    """Return the A of every module where it is common to all adapters and they change the same modules; None
    elsewhere."""
    first = adapters[0].modules
    if any(adapter.modules.keys() != first.keys() for adapter in adapters[1:]):
        return None
    found = {}
    for module in first:
        if not common_A([adapter.modules[module] for adapter in adapters]):
            return None
        found[module] = first[module].A
    return found
