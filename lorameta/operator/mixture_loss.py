"""The loss of a mixture of adapters on a few rows, as a function of its weights: what the search operator minimises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.base_model.batch import answer_losses, by_length, collate, encode_example
from lorameta.errors import BankError, DataError, UsageError, violations

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.data import Example
    from lorameta.evaluate import Scorer


class MixtureLoss:
    """w ↦ mean answer loss of the base plus Σ wᵢ ΔWᵢ, by forward passes alone.

    The rows are tokenised once, and so are the adapters laid side by side once, [B_1 … B_k] and [A_1; …; A_k]; an
    evaluation scales between the two. The sum is exact: it is neither cut to a rank, as the combiner ``delta`` does
    afterwards, nor the product of averages that LoraHub searches. The base's weights are not written to.

    Parameters
    ----------
    scorer : Scorer
        The base in memory. It may be used for other things between two evaluations.
    adapters : sequence of Adapter
        k of them, of that base; ranks, scalings and modules may differ.
    examples : sequence of Example
        Labelled rows, used as they are: draw few, since every evaluation runs over all.

    Raises
    ------
    UsageError
        There is no adapter.
    DataError
        There is no row, or rows have no output.
    BankError
        An adapter changes what the base does not have, or in another shape; all violations.
    """

    def __init__(self, scorer: Scorer, adapters: Sequence[Adapter], examples: Sequence[Example]) -> None:
        if not adapters:
            raise UsageError("there is no adapter to mix")
        unlabelled = [number for number, example in enumerate(examples, start=1) if not example.outputs]
        if unlabelled or not examples:
            listed = ", ".join(map(str, unlabelled[:5])) + (", ..." if len(unlabelled) > 5 else "")
            what = f"rows {listed} of {len(examples)} have no output" if examples else "there are no rows"
            raise DataError(f"{what}, so their loss cannot be measured; give rows with the answers that are wanted")
        self._scorer = scorer
        self._count = len(adapters)
        self._factors = _side_by_side(scorer.model, adapters)
        tokenizer = scorer.tokenizer
        encoded = [encode_example(tokenizer, example) for example in examples]
        self._batches = [
            tuple(part.to(scorer.model.device) for part in collate([encoded[i] for i in batch], tokenizer.pad_token_id))
            for batch in by_length([len(example.ids) for example in encoded], scorer.batch_size)
        ]

    def __call__(self, weights: np.ndarray) -> float:
        """Mean negative log-likelihood in nats of a token of the answers.

        Parameters
        ----------
        weights : numpy.ndarray of shape (k,), finite
            Of any sign; zeros give the base.
        """
        import torch

        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (self._count,) or not np.isfinite(weights).all():
            raise UsageError(f"{self._count} finite weights are needed, one an adapter; got {weights}")
        total, tokens = 0.0, 0
        model = self._scorer.model
        with torch.inference_mode(), self._attached(model, weights):
            for batch in self._batches:
                losses = answer_losses(model, *batch)
                total, tokens = total + losses.sum().item(), tokens + losses.numel()
        return total / tokens

    @contextmanager
    def _attached(self, model: Any, weights: np.ndarray) -> Iterator[None]:
        handles = []
        try:
            for name, (A, B, scaling, owner) in self._factors.items():
                used = weights[owner] != 0
                if used.any():
                    scale = A.new_tensor(scaling * weights[owner])
                    hook = _Added(A, B * scale) if used.all() else _Added(A[used], (B * scale)[:, used])
                    handles.append(model.get_submodule(name).register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Added:
    """A forward hook that adds B A x to what a layer gives for x."""

    def __init__(self, A: Any, B: Any) -> None:
        self.A, self.B = A, B

    def __call__(self, module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        from torch.nn.functional import linear

        return output + linear(linear(inputs[0], self.A), self.B)


def _side_by_side(model: Any, adapters: Sequence[Adapter]) -> dict[str, tuple[Any, Any, np.ndarray, np.ndarray]]:
    """By module: all A one below the other, all B side by side, and of every column its scaling and its adapter."""
    import torch

    layers = dict(model.named_modules())
    problems: list[str] = []
    found: dict[str, tuple[Any, Any, np.ndarray, np.ndarray]] = {}
    for module in sorted({name for adapter in adapters for name in adapter.modules}):
        weight = getattr(layers.get(module), "weight", None)
        shape = None if weight is None else tuple(weight.shape)
        having = [index for index, adapter in enumerate(adapters) if module in adapter.modules]
        pairs = [adapters[index].modules[module] for index in having]
        bad = [(index, pair) for index, pair in zip(having, pairs, strict=True) if pair.shape != shape]
        for index, pair in bad:
            name = adapters[index].name or f"adapter {index}"
            problems.append(f"{name}: it changes {module} {pair.shape}, which is {shape or 'not'} in the base")
        if bad or weight is None:
            continue
        ranks = [pair.rank for pair in pairs]
        A, B = np.concatenate([pair.A for pair in pairs]), np.concatenate([pair.B for pair in pairs], axis=1)
        A, B = (torch.from_numpy(part).to(weight.device, weight.dtype) for part in (A, B))
        found[module] = (A, B, np.repeat([pair.scaling for pair in pairs], ranks), np.repeat(having, ranks))
    if problems:
        raise BankError(violations(problems, "adapters for another base than the one in memory:"))
    return found
