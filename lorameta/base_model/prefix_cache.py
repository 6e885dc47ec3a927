"""Keys and values of the tokens that all rows begin with: run once, and every row goes on from them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lorameta.base_model.batch import EncodedExample, decoder_of
from lorameta.base_model.shared_prefix import common_beginning

if TYPE_CHECKING:
    import torch

#: Tokens that all rows must have in common at their beginning for it to be run apart.
LEAST = 8


def caches(model: Any) -> bool:
    """Check whether keys and values of a prefix may be kept as they are: plain attention in all layers."""
    config = model.config.get_text_config()
    plain = all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or ())
    if not plain or getattr(config, "sliding_window", None):
        return False
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache(config=config)
    supported = getattr(model, "_supports_default_dynamic_cache", lambda: True)()
    return bool(supported) and all(type(layer) is DynamicLayer for layer in cache.layers)


def shared_prompt(rows: Sequence[EncodedExample]) -> list[int]:
    """Return the token ids that all rows begin with, short of the last prompt token, whose logits are wanted.

    Empty where they are too few to be run apart.
    """
    least = max(0, min((row.answer_start for row in rows), default=0) - 1)
    if len(rows) < 2 or not least:
        return []
    count = common_beginning([row.ids[:least] for row in rows])
    return rows[0].ids[:count] if count >= LEAST else []


class PrefixCache:
    """Keys and values of a prefix, as the model is now.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        For which :func:`caches` holds.
    prefix : list of int
        Token ids; may be empty.
    """

    def __init__(self, model: Any, prefix: list[int]) -> None:
        import torch
        from transformers.cache_utils import DynamicCache

        self.prefix = prefix
        if prefix:
            ids = torch.tensor([prefix], device=model.device)
            self._past = decoder_of(model)(input_ids=ids, use_cache=True).past_key_values
        else:
            self._past = DynamicCache(config=model.config.get_text_config())

    def behind(self, attention: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Return the attention mask with the prefix in front of every row, and a cache of its own for these rows."""
        import torch

        rows = len(attention)
        cache = copy.deepcopy(self._past)
        cache.batch_repeat_interleave(rows)
        return torch.cat([attention.new_ones(rows, len(self.prefix)), attention], dim=1), cache
