"""Loss and answer logits of a mixture of adapters on a few rows, as functions of its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import DataError, UsageError
from lorameta.operator.factors import Factors
from lorameta.operator.passes import Passes

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.base_model.load import Base
    from lorameta.data import Example

#: Answer tokens whose logits are kept one by one, the most frequent ones; the others are summed up.
VOCABULARY = 256
#: In place of a logit that does not count.
_NEVER = -1e9


@dataclass(frozen=True)
class Measured:
    """How a mixture does on the rows.

    Attributes
    ----------
    losses : numpy.ndarray of shape (rows,)
        Summed negative log-likelihood in nats of each row's answer tokens.
    tokens : numpy.ndarray of shape (rows,)
    exact : numpy.ndarray of shape (rows,), bool
        Whether every answer token is the most likely one after those before it, so that greedy decoding gives the
        answer and ends.
    """

    losses: np.ndarray
    tokens: np.ndarray
    exact: np.ndarray

    @property
    def loss(self) -> float:
        """Mean over all answer tokens."""
        return float(self.losses.sum() / self.tokens.sum())

    @property
    def exact_match(self) -> float:
        """Share of rows."""
        return float(self.exact.mean())


class MixtureLoss:
    """w ↦ mean answer loss of the base plus Σ wᵢ ΔWᵢ, by forward passes alone.

    The rows are tokenised once, and so are the adapters placed side by side once; an evaluation adds their mixture to
    what the layers give. The sum is exact: it is neither cut to a rank, as the combiner ``delta`` does afterwards, nor
    the product of averages that LoraHub searches. The base's weights are not written to.

    Parameters
    ----------
    base : Base, or what else has a `model` and a `tokenizer`
        In memory. It may be used for other things between two evaluations.
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

    def __init__(self, base: Base | Any, adapters: Sequence[Adapter], examples: Sequence[Example]) -> None:
        if not adapters:
            raise UsageError("there is no adapter to mix")
        self._base = base
        self.passes = _passes(base, examples)
        self.factors = Factors(base.model, adapters)

    def on(self, examples: Sequence[Example]) -> MixtureLoss:
        """Return the same adapters on other rows."""
        other = object.__new__(MixtureLoss)
        other._base, other.factors, other.passes = self._base, self.factors, _passes(self._base, examples)
        return other

    @property
    def count(self) -> int:
        """k, the number of adapters."""
        return self.factors.count

    @property
    def owner(self) -> np.ndarray:
        """The row that each answer token belongs to."""
        return self.passes.owner

    def one(self, index: int | np.integer) -> np.ndarray:
        """Return the weights that are 1 for an adapter and 0 for the others."""
        weights = np.zeros(self.count)
        weights[index] = 1.0
        return weights

    def __call__(self, weights: np.ndarray) -> float:
        """Return the mean negative log-likelihood in nats of a token of the answers.

        Parameters
        ----------
        weights : numpy.ndarray of shape (k,), finite
            Of any sign; zeros give the base.
        """
        return self.measure(weights).loss

    def measure(self, weights: np.ndarray) -> Measured:
        """Return the loss and exact match row by row."""
        import torch
        from torch.nn.functional import cross_entropy

        losses = np.empty(len(self.passes.targets))
        hits = np.empty(len(losses), dtype=bool)
        with self._with(weights):
            for places, logits in self.passes.logits():
                targets = torch.from_numpy(self.passes.targets[places]).to(logits.device)
                losses[places] = cross_entropy(logits, targets, reduction="none").double().cpu().numpy()
                hits[places] = (logits.argmax(dim=1) == targets).cpu().numpy()
        owner = self.passes.owner
        rows = int(owner[-1]) + 1
        tokens = np.bincount(owner, minlength=rows)
        return Measured(np.bincount(owner, losses, rows), tokens, np.bincount(owner, hits, rows) == tokens)

    def logits(self, weights: np.ndarray) -> np.ndarray:
        """Return the logits at the answers' positions, cut down to what the loss needs.

        Returns
        -------
        numpy.ndarray of shape (tokens, c), float64
            Column 0 is the answer's own token, the last one the log of the summed exponentials of all tokens without a
            column, and those between are the most frequent answer tokens, the same for every row; where one of them
            is the answer itself, it holds -1e9. So logsumexp(row) - row[0] is the negative log-likelihood.
        """
        import torch

        passes, kept = self.passes, torch.from_numpy(self._vocabulary())
        found = np.empty((len(passes.targets), len(kept) + 2))
        with self._with(weights):
            for places, logits in passes.logits():
                targets = torch.from_numpy(passes.targets[places]).to(logits.device)
                own = logits.gather(1, targets[:, None])
                columns = logits[:, kept].masked_fill(kept[None] == targets[:, None], _NEVER)
                rest = logits.scatter(1, targets[:, None], -torch.inf)
                rest[:, kept] = -torch.inf
                rest = rest.logsumexp(dim=1, keepdim=True).clamp_min(_NEVER)
                found[places] = torch.cat([own, columns, rest], dim=1).double().cpu().numpy()
        return found

    def _vocabulary(self) -> np.ndarray:
        counted = Counter(self.passes.targets.tolist())
        return np.array(sorted(token for token, _ in counted.most_common(VOCABULARY)), dtype=np.int64)

    @contextmanager
    def _with(self, weights: np.ndarray) -> Iterator[None]:
        import torch

        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (self.count,) or not np.isfinite(weights).all():
            raise UsageError(f"{self.count} finite weights are needed, one per adapter; got {weights}")
        with torch.inference_mode(), self.factors.attached(weights):
            yield


def _passes(base: Base | Any, examples: Sequence[Example]) -> Passes:
    unlabelled = [number for number, example in enumerate(examples, start=1) if not example.outputs]
    if unlabelled or not examples:
        listed = ", ".join(map(str, unlabelled[:5])) + (", ..." if len(unlabelled) > 5 else "")
        what = f"rows {listed} of {len(examples)} have no output" if examples else "there are no rows"
        raise DataError(f"{what}, so their loss cannot be measured; give rows with the answers that are wanted")
    return Passes(base.model, base.tokenizer, examples)
