"""The rows of a run: which are held out, what they are in tokens, and which of them go through the model together."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lorameta.base_model import batch
from lorameta.base_model.batch import EncodedExample
from lorameta.base_model.load import LARGE
from lorameta.data import Example
from lorameta.data.split import Parts, by_digest
from lorameta.errors import DataError

#: Fewest rows that the best state is chosen by, where there are four times as many, and the most.
HELD_OUT = (16, 512)
#: Tokens that go through a base at once, by the number of its parameters: enough for matrices to be multiplied at full
#: speed, and no more, since memory grows with them.
MICRO_BATCH_TOKENS = {100e6: 4096, LARGE: 1024, math.inf: 512}


def hold_out(examples: Iterable[Example], share: float) -> Parts:
    """Take some rows away from training, by their hashes: the order of the rows decides nothing.

    Parameters
    ----------
    examples : iterable of Example
        Copies of a row stay together.
    share : float
        Of the distinct rows. Of a small dataset more are taken, up to a quarter, so that there are 16 if possible; of
        a large one never more than 512.

    Returns
    -------
    Parts
        Without test rows; both parts in the order of their hashes.

    Raises
    ------
    DataError
        There are fewer than two different rows.
    """
    keyed = by_digest(examples)
    least, most = HELD_OUT
    count = max(1, round(share * len(keyed)), min(least, len(keyed) // 4))
    order = sorted(keyed)
    held, kept = order[: min(count, most)], order[min(count, most) :]
    return Parts(
        train=tuple(row for digest in kept for row in keyed[digest]),
        validation=tuple(row for digest in held for row in keyed[digest]),
    )


def encode_rows(tokenizer: Any, examples: Sequence[Example], part: str, limit: int) -> tuple[list[EncodedExample], int]:
    """Return the rows of a part in tokens, and how many of them were longer than `limit` and shortened.

    Raises
    ------
    DataError
        Rows without an answer.
    """
    if unlabelled := sum(not example.outputs for example in examples):
        raise DataError(f"{unlabelled} of the {len(examples)} {part} rows have no answer to train on")
    rows, cut = batch.encode_rows(tokenizer, examples, limit)
    batch.warn_of_cut(cut, len(rows), limit, f"training (the {part} rows)")
    return rows, cut


def micro_batches(
    lengths: Sequence[int], chosen: Sequence[int], *, rows: int | None, tokens: int
) -> Iterator[list[int]]:
    """Cut a batch into parts that go through the model at once: rows of like length, hardly any padding.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of all rows.
    chosen : sequence of int
        Indices of the batch.
    rows : int or None
        At most so many rows per micro-batch; None: as many as `tokens` allows.
    tokens : int
        At most so many tokens per micro-batch, padding included, if that is more than one row.
    """
    micro_batch: list[int] = []
    for index in sorted(chosen, key=lambda i: (-lengths[i], i)):
        longest = lengths[micro_batch[0]] if micro_batch else lengths[index]
        full = len(micro_batch) == rows if rows is not None else (len(micro_batch) + 1) * longest > tokens
        if micro_batch and full:
            yield micro_batch
            micro_batch = []
        micro_batch.append(index)
    if micro_batch:
        yield micro_batch


def batches(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Return the indices in batches of similar length and in random order: shuffled, sorted within pools of eight,
    shuffled."""
    order = rng.sample(range(len(lengths)), len(lengths))
    pool = 8 * batch_size
    order = [i for p in range(0, len(order), pool) for i in sorted(order[p : p + pool], key=lambda i: lengths[i])]
    found = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    rng.shuffle(found)
    return found


def micro_batch_tokens(parameters: int) -> int:
    """Return the tokens that go through a base of so many parameters at once."""
    return next(tokens for most, tokens in MICRO_BATCH_TOKENS.items() if parameters < most)


def cut(
    rows: Sequence[EncodedExample], chosen: Sequence[int] | None = None, *, most: int | None = None, tokens: int
) -> Iterator[list[EncodedExample]]:
    """Yield the rows of each of the :func:`micro_batches` of a batch; by default of all rows."""
    chosen = range(len(rows)) if chosen is None else chosen
    for micro_batch in micro_batches([len(row.ids) for row in rows], chosen, rows=most, tokens=tokens):
        yield [rows[i] for i in micro_batch]
