"""A dataset beside a bank: its summary by the bank's own encoders, its distances, and how unusual it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lorameta.distance import DISTANCES, distances
from lorameta.errors import BankError, LorametaWarning, UsageError
from lorameta.mixing.clock import Clock
from lorameta.mixing.novelty import Unusual, unusual

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank
    from lorameta.data import Example
    from lorameta.encoder import DatasetSummary


@dataclass(frozen=True)
class Comparison:
    """What comparing a dataset with a bank found.

    Attributes
    ----------
    bank : AdapterBank
    examples : sequence of Example
    distance : str
    summary : DatasetSummary
    distances : numpy.ndarray of shape (N,), float64
        In the order of the bank's ids.
    outside : Unusual or None
        How unusual the dataset is for the bank; None for a bank of one adapter.
    seed : int
    seconds : dict of str to float
        Wall time of each step.
    """

    bank: AdapterBank
    examples: Sequence[Example]
    distance: str
    summary: DatasetSummary
    distances: np.ndarray
    outside: Unusual | None
    seed: int
    seconds: dict[str, float]


def compare(
    examples: Sequence[Example], bank: AdapterBank, distance: str, *, also: Sequence[str] = (), seed: int = 0
) -> Comparison:
    """Summarise a dataset and measure its distances to those behind a bank; a dataset outside the bank is warned of.

    Parameters
    ----------
    examples : sequence of Example
    bank : AdapterBank
    distance : str
        A key of ``lorameta.distance.DISTANCES``.
    also : sequence of str
        Parts of the summary that are wanted whatever the distance.
    seed : int
        Of the sample of embeddings.

    Raises
    ------
    UsageError
        There is no such distance.
    BankError
        The bank lacks what is needed.
    """
    from lorameta.encoder.summary import merge

    clock = Clock()
    summary = summarise(examples, bank, distance, seed=seed)
    for part in also:
        if not summary.has(part):
            summary = merge(summary, _encode(examples, bank, part, "the operator", seed))
    clock.lap("encode")
    found = distances(summary, bank.summaries, distance)
    outside = unusual(summary, bank.summaries, found, distance, seed=seed)
    if outside is not None and outside.outside:
        warnings.warn(outside.message(), LorametaWarning, stacklevel=3)
    clock.lap("compare")
    return Comparison(bank, examples, distance, summary, found, outside, seed, clock.laps)


def summarise(examples: Sequence[Example], bank: AdapterBank, distance: str, *, seed: int = 0) -> DatasetSummary:
    """Return the summary of `examples` that `distance` needs, made with the bank's own tokenizer or sentence model."""
    if distance not in DISTANCES:
        raise UsageError(f"unknown distance {distance!r}; there are {', '.join(DISTANCES)}")
    return _encode(examples, bank, DISTANCES[distance].needs, f"the distance {distance!r}", seed)


def _encode(examples: Sequence[Example], bank: AdapterBank, part: str, what: str, seed: int) -> DatasetSummary:
    from lorameta.encoder import SentenceEncoder, TokenEncoder

    bank.summaries.part(part)  # without it there is nothing to compare with
    if part == "sentence":
        model = bank.summaries.sentence_model
        if model not in (None, SentenceEncoder.model):
            on_tokens = ", ".join(name for name, known in DISTANCES.items() if known.needs == "tokens")
            raise BankError(
                f"the summaries of the bank {bank.name} were made with the sentence model {model}, not with "
                f"{SentenceEncoder.model}, which {what} needs; use a distance on tokens: {on_tokens}"
            )
        return SentenceEncoder().encode(examples, seed=seed)
    if bank.tokenizer_path is None:
        raise BankError(f"the bank {bank.name} has no tokenizer.json, which {what} needs")
    encoder = TokenEncoder(bank.tokenizer_path)
    expected = bank.summaries.tokenizer_hash
    if expected is not None and encoder.tokenizer_hash != expected:
        raise BankError(
            f"the tokenizer in {bank.tokenizer_path} is not the one the bank's summaries were made with "
            f"({encoder.tokenizer_hash[:12]} instead of {expected[:12]}); fetch or build the bank again"
        )
    return encoder.encode(examples)
