"""The gradient operator: how steeply the loss falls towards each adapter, read off one backward pass.

No step is taken and nothing is trained: the gradient of the loss at the uniform mixture is computed once, and its inner
product with an adapter's update tells how the loss changes on the way to that adapter. That costs about as much as
three forward passes over the rows, whatever the size of the bank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.adapter import Adapter
from lorameta.base_model.batch import answer_losses, by_length, collate, encode_rows, positions_of, warn_of_cut
from lorameta.combiner import combine
from lorameta.operator.context import Context
from lorameta.operator.factors import Factors, shared_A
from lorameta.operator.normalized import normalized

if TYPE_CHECKING:
    import torch

    from lorameta.base_model.load import Base
    from lorameta.data import Example

#: Rows of a backward pass: all activations of a batch are in memory.
BATCH = 4


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by softmin of the standardised slopes per unit of an adapter's norm."""
    near = context.candidates
    found = scores(context, near)
    weights = context.spread(near, normalized(found, temperature=context.temperature))
    return weights, {"candidates": len(near), "rows": len(context.rows)}


def scores(context: Context, indices: np.ndarray) -> np.ndarray:
    """Slope over ‖ΔW‖ of some adapters at their uniform mixture: the lower, the better. 0 for an adapter that is 0."""
    adapters = context.adapters(indices)
    context.progress.start("gradient", 3)
    found = slopes(context.base, adapters, context.rows, np.full(len(adapters), 1 / len(adapters)))
    context.progress(3)
    norms = np.array([adapter.norm() for adapter in adapters])
    return np.divide(found, norms, out=np.zeros(len(found)), where=norms > 0)


def slopes(base: Base | Any, adapters: Sequence[Adapter], rows: Sequence[Example], centre: np.ndarray) -> np.ndarray:
    """d/dε of the mean answer loss at the base plus Σ cⱼ ΔWⱼ + ε ΔWᵢ, at ε = 0, for every i.

    With G = ∂L/∂W of a module, the slope towards adapter i is Σ over modules of sᵢ tr(Bᵢᵀ G Aᵢᵀ). Where all adapters
    have the same A, G Aᵀ is kept alone: a matrix of the size of B.

    Parameters
    ----------
    base : Base, or what else has a `model` and a `tokenizer`
        Its weights are neither changed nor given gradients.
    adapters : sequence of Adapter
        k of them.
    rows : sequence of Example
        With outputs.
    centre : numpy.ndarray of shape (k,)

    Returns
    -------
    numpy.ndarray of shape (k,), float64

    Examples
    --------
    They agree with finite differences of the loss:

    >>> from lorameta.bank import AdapterBank
    >>> from lorameta.base_model.load import load_base
    >>> from lorameta.data import Example
    >>> from lorameta.operator.mixture_loss import MixtureLoss
    >>> bank = AdapterBank.open("tiny")
    >>> base, adapters = load_base(bank.base_model), [bank[name] for name in bank.ids[:2]]
    >>> rows = [Example("Definition: add the numbers\\n\\nInput: 1 2\\n\\nOutput:", ("3",))]
    >>> loss = MixtureLoss(base, adapters, rows)
    >>> measured = [(loss(0.01 * w) - loss(-0.01 * w)) / 0.02 for w in np.eye(2)]
    >>> np.allclose(slopes(base, adapters, rows, np.zeros(2)), measured, rtol=0.05)
    True
    """
    import torch

    model, common = base.model, shared_A(adapters)
    modules = sorted({name for adapter in adapters for name in adapter.modules})
    limit = positions_of(model.config)
    encoded, cut = encode_rows(base.tokenizer, rows, limit)
    warn_of_cut(cut, len(encoded), limit, "the trial")
    tokens = sum(len(row.ids) - row.answer_start for row in encoded)
    if common is not None and centre.any():  # one adapter in memory beside them, not all of them twice
        factors, centre = Factors(model, [Adapter(combine(adapters, centre, errors=False)[0], "")]), np.ones(1)
    else:
        factors = Factors(model, adapters)
    with torch.enable_grad(), factors.attached(centre), _gathering(model, modules, common) as gathered:
        for batch in by_length([len(row.ids) for row in encoded], BATCH):
            tensors = collate([encoded[i] for i in batch], base.tokenizer.pad_token_id)
            losses = answer_losses(model, *(part.to(model.device) for part in tensors))
            (losses.sum() / tokens).backward()
    found = np.zeros(len(adapters))
    for module, G in gathered.items():
        for index, adapter in enumerate(adapters):
            if module in adapter.modules:
                pair = adapter.modules[module]
                towards = G if common is not None else G @ pair.A.T.astype(np.float64)
                found[index] += pair.scaling * float(np.vdot(pair.B.astype(np.float64), towards))
    return found


@contextmanager
def _gathering(
    model: Any, modules: Sequence[str], common: Mapping[str, np.ndarray] | None
) -> Iterator[dict[str, np.ndarray]]:
    """Sum up ∂L/∂W of some layers over backward passes, or ∂L/∂W Aᵀ; filled in when the context ends."""
    import torch

    sums: dict[str, torch.Tensor] = {}

    def wants_gradient(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output.detach().requires_grad_()

    def watch(name: str, A: torch.Tensor | None) -> Any:
        def hook(_: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
            x = inputs[0].detach()
            x = x if A is None else x @ A.T

            def add(gradient: torch.Tensor) -> None:
                product = gradient.flatten(0, -2).T.float() @ x.flatten(0, -2).float()
                sums[name] = product if name not in sums else sums[name].add_(product)

            output.register_hook(add)

        return hook

    with ExitStack() as stack:
        stack.enter_context(model.get_input_embeddings().register_forward_hook(wants_gradient))
        for name in modules:
            layer = model.get_submodule(name)
            A = (
                None
                if common is None
                else torch.from_numpy(np.array(common[name])).to(layer.weight.device, layer.weight.dtype)
            )
            stack.enter_context(layer.register_forward_hook(watch(name, A)))
        gathered: dict[str, np.ndarray] = {}
        yield gathered
        gathered |= {name: total.double().cpu().numpy() for name, total in sums.items()}
