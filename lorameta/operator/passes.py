"""Labelled rows as batches that are made once: similar lengths together, the prompt's common beginning run once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.base_model.batch import (
    EncodedExample,
    answer_logits,
    by_length,
    collate,
    encode_rows,
    positions_of,
    warn_of_cut,
)
from lorameta.base_model.prefix_cache import PrefixCache, caches, shared_prompt

if TYPE_CHECKING:
    import torch

    from lorameta.data import Example

#: Rows of a batch: more make matrix products no faster on a CPU, and padding and memory grow.
BATCH = 16


class Passes:
    """Rows that are run through one model again and again.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    tokenizer : transformers.PreTrainedTokenizerFast
    examples : sequence of Example
        Each with an output.

    Attributes
    ----------
    targets : numpy.ndarray of shape (tokens,)
        Id of every answer token, row by row in the order of `examples`.
    owner : numpy.ndarray of shape (tokens,)
        The row that each of them belongs to.
    tokens : int
        That a pass runs through the model.
    """

    def __init__(self, model: Any, tokenizer: Any, examples: Sequence[Example]) -> None:
        self.model = model
        limit = positions_of(model.config)
        encoded, long = encode_rows(tokenizer, examples, limit)
        warn_of_cut(long, len(encoded), limit, "the trial")
        self.targets = np.concatenate([np.array(row.ids[row.answer_start :], dtype=np.int64) for row in encoded])
        self.owner = np.repeat(np.arange(len(encoded)), [len(row.ids) - row.answer_start for row in encoded])
        self.prefix = shared_prompt(encoded) if caches(model) else []
        cut = len(self.prefix)
        rest = [EncodedExample(row.ids[cut:], row.answer_start - cut) for row in encoded]
        self.tokens = cut + sum(len(row.ids) for row in rest)
        starts = np.concatenate([[0], np.cumsum([len(row.ids) - row.answer_start for row in rest])])
        self.batches = []
        for batch in by_length([len(row.ids) for row in rest], BATCH):
            tensors = tuple(part.to(model.device) for part in collate([rest[i] for i in batch], tokenizer.pad_token_id))
            places = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in batch])
            self.batches.append((tensors, places))

    def logits(self) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Run the model as it is now: places in `targets`, and the logits (tokens, vocabulary) there, by batch."""
        past = PrefixCache(self.model, self.prefix) if self.prefix else None
        for (ids, attention, answers), places in self.batches:
            more: dict[str, Any] = {"use_cache": False}
            if past is not None:
                attention, cache = past.behind(attention)
                more = {"use_cache": True, "past_key_values": cache}
            yield places, answer_logits(self.model, ids, attention, answers, **more).float()
