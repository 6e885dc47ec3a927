"""What a step computes: the gradient of a batch in pieces, and the loss on held-out rows in the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorameta.base_model.batch import EncodedExample, answer_losses, collate
from lorameta.base_model.load import LARGE
from lorameta.training.rows import pieces

if TYPE_CHECKING:
    from lorameta.training.prefix import Prefix

#: Tokens that go through a base at once, by the number of its parameters: enough for matrices to be multiplied at full
#: speed, and no more, since memory grows with them.
PIECE_TOKENS = {100e6: 4096, LARGE: 1024, math.inf: 512}


def piece_tokens(parameters: int) -> int:
    """Tokens that go through a base of so many parameters at once."""
    return next(tokens for most, tokens in PIECE_TOKENS.items() if parameters < most)


def backward(
    model: Any, rows: Sequence[EncodedExample], batch: Sequence[int], pad: int, *, most: int | None, tokens: int,
    prefix: Prefix | None = None,
) -> float:  # fmt: skip
    """Add the gradient of the mean loss of an answer token in a batch; returns that loss in nats.

    Parameters
    ----------
    model : peft.PeftModel
    rows : sequence of EncodedExample
    batch : sequence of int
        Indices of the batch's rows.
    pad : int
        Id of the padding token.
    most, tokens
        Of a piece, see :func:`lorameta.training.rows.pieces`.
    prefix : Prefix, optional
        Of frozen layers, mounted.
    """
    lengths = [len(row.ids) for row in rows]
    count = sum(answers(rows[i]) for i in batch)
    total = 0.0
    for piece in pieces(lengths, batch, rows=most, tokens=tokens):
        loss = _losses(model, [rows[i] for i in piece], pad, prefix).sum() / count
        loss.backward()
        total += loss.item()
    return total


def mean_loss(
    model: Any, rows: Sequence[EncodedExample], pad: int, *, tokens: int, prefix: Prefix | None = None
) -> float:
    """Mean negative log-likelihood in nats of an answer token, end tokens included; the model is left evaluating."""
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():  # nothing is kept for a way back, so more tokens fit
        for piece in pieces([len(row.ids) for row in rows], range(len(rows)), rows=None, tokens=2 * tokens):
            found = _losses(model, [rows[i] for i in piece], pad, prefix)
            total, count = total + found.double().sum().item(), count + found.numel()
    return total / count if count else math.nan


def _losses(model: Any, rows: Sequence[EncodedExample], pad: int, prefix: Prefix | None) -> Any:
    if prefix is not None:
        prefix.give(rows)
    return answer_losses(model, *collate(rows, pad))


def answers(row: EncodedExample) -> int:
    """Tokens of a row that the loss is on."""
    return len(row.ids) - max(row.answer_start, 1)


def optimizer_of(parameters: Sequence[Any], rate: float, weight_decay: float) -> Any:
    """AdamW in one pass over all factors, with the moments of :data:`lorameta.training.train.BETAS`."""
    import torch

    from lorameta.training.train import BETAS

    return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay, betas=BETAS, fused=True)


def clip(parameters: Sequence[Any], longest: float) -> float:
    """Shorten the gradient to `longest`; its length before."""
    import torch

    return float(torch.nn.utils.clip_grad_norm_(parameters, longest))
