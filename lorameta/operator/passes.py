"""Labelled rows as batches that are made once: similar lengths together, the prompt's common beginning run once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.base_model.batch import (
    EncodedExample,
    answer_logits,
    by_length,
    collate,
    decoder_of,
    encode_rows,
    positions_of,
    warn_of_cut,
)

if TYPE_CHECKING:
    import torch

    from lorameta.data import Example

#: Rows of a batch: more make matrix products no faster on a CPU, and padding and memory grow.
BATCH = 16
#: Tokens that all rows must have in common at their beginning for it to be run apart.
PREFIX = 8


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
        self.prefix = _common(encoded) if _caches(model) else []
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
        import torch

        past = None
        if self.prefix:
            ids = torch.tensor([self.prefix], device=self.model.device)
            past = decoder_of(self.model)(input_ids=ids, use_cache=True).past_key_values
        for (ids, attention, answers), places in self.batches:
            more: dict[str, Any] = {"use_cache": False}
            if past is not None:
                cache = copy.deepcopy(past)
                cache.batch_repeat_interleave(len(ids))
                attention = torch.cat([attention.new_ones(len(ids), len(self.prefix)), attention], dim=1)
                more = {"use_cache": True, "past_key_values": cache}
            yield places, answer_logits(self.model, ids, attention, answers, **more).float()


def _common(encoded: Sequence[EncodedExample]) -> list[int]:
    """The token ids that all rows begin with, short of the last prompt token, whose logits are wanted."""
    if len(encoded) < 2:
        return []
    least = min(row.answer_start for row in encoded) - 1
    first, last = min(row.ids[:least] for row in encoded), max(row.ids[:least] for row in encoded)
    count = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), max(least, 0))
    return first[:count] if count >= PREFIX else []


def _caches(model: Any) -> bool:
    """Whether keys and values of a prefix may be kept as they are: plain attention in all layers."""
    config = model.config.get_text_config()
    plain = all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or ())
    if not plain or getattr(config, "sliding_window", None):
        return False
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache(config=config)
    supported = getattr(model, "_supports_default_dynamic_cache", lambda: True)()
    return bool(supported) and all(type(layer) is DynamicLayer for layer in cache.layers)
