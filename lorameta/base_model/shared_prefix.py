"""Rows that begin with the same tokens, packed into one sequence: the common beginning goes through the model once.

The rows of a task share its definition, often half of their tokens. One sequence holds the common beginning and then
the rest of every row; a row's tokens attend to the beginning and to their own row alone, at the positions that they
have in the row. The losses and their gradients are those of the rows one by one, without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lorameta.base_model.batch import EncodedExample, answer_losses, collate
from lorameta.base_model.load import Base
from lorameta.errors import UsageError

#: Largest difference of the mean loss, packed and not, that rounding explains: of the loss, or in nats per token.
TOLERANCE = 0.03


def packed_losses(model: Any, rows: Sequence[EncodedExample]) -> Any:
    """Negative log-likelihood in nats of every answer token, as one flat tensor; rows in their order.

    The same numbers as :func:`lorameta.base_model.batch.answer_losses`, for models whose attention takes a mask of
    four dimensions and explicit positions, and whose layers attend to the whole sequence.
    """
    import torch
    from torch.nn.functional import cross_entropy

    shared = common_beginning([row.ids[:-1] for row in rows])
    ids = list(rows[0].ids[:shared])
    positions, owner = list(range(shared)), [-1] * shared
    before: list[int] = []  # where each answer token is predicted
    targets: list[int] = []
    for number, row in enumerate(rows):
        start = len(ids) - shared  # a token at i of the row is at start + i of the sequence
        ids += row.ids[shared:]
        positions += range(shared, len(row.ids))
        owner += [number] * (len(row.ids) - shared)
        for i in range(max(row.answer_start, 1), len(row.ids)):
            before.append(i - 1 if i - 1 < shared else start + i - 1)
            targets.append(row.ids[i])
    dtype = model.get_input_embeddings().weight.dtype
    who = torch.tensor(owner)
    seen = ((who[:, None] == who) | (who == -1)).tril()
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    wanted = torch.tensor(before)
    head = model.get_output_embeddings()
    with head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, wanted], *inputs[1:])):
        logits = model(
            input_ids=torch.tensor([ids]), attention_mask=mask[None, None], position_ids=torch.tensor([positions]),
            use_cache=False,
        ).logits[0]  # fmt: skip
    return cross_entropy(logits.float(), torch.tensor(targets), reduction="none")


def common_beginning(rows: Sequence[Any]) -> int:
    """Return how many tokens all rows begin with, lists of token ids; or how many characters all texts."""
    first, last = min(rows), max(rows)  # if these two agree, so do all between them
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


@contextmanager
def packing(model: Any) -> Iterator[None]:
    """Let a model compute attention step by step, which is quicker on a CPU for short sequences with a full mask."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def check_packing(model: Any, base: Base, rows: Sequence[EncodedExample]) -> None:
    """Refuse a model that gives packed rows another loss: one that looks at a window, or counts positions itself.

    Raises
    ------
    UsageError
        The losses of `rows` differ by more than rounding.
    """
    import torch

    model.eval()
    with torch.no_grad():
        packed = packed_losses(model, rows).mean().item()
        plain = answer_losses(model, *collate(rows, base.tokenizer.pad_token_id)).mean().item()
    if not abs(packed - plain) <= TOLERANCE * max(1.0, plain):
        raise UsageError(
            f"rows that share their beginning cannot be packed for {base.name}: their loss is {packed:.4f} instead of "
            f"{plain:.4f}; leave --share-prefix out"
        )
