"""Encoders: Examples in, a `DatasetSummary` out.

``tokens`` counts the base's tokens; ``sentence`` embeds the texts and keeps the moments and a sample. A bank's
summaries, stacked and stored in one file, are `Summaries`.
"""

from __future__ import annotations

from lorameta.encoder.counts import TokenCounts
from lorameta.encoder.sentence import SentenceEncoder
from lorameta.encoder.summary import DatasetSummary, Summaries, merge
from lorameta.encoder.tokens import TokenEncoder, tokenizer_hash

#: Part of a summary → the class that computes it.
ENCODERS: dict[str, type[TokenEncoder] | type[SentenceEncoder]] = {
    "tokens": TokenEncoder,
    "sentence": SentenceEncoder,
}

__all__ = [
    "ENCODERS",
    "DatasetSummary",
    "SentenceEncoder",
    "Summaries",
    "TokenCounts",
    "TokenEncoder",
    "merge",
    "tokenizer_hash",
]
