"""`generate_adapter`: a dataset in, a LoRA adapter out, without a gradient step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import BankError, UsageError

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.data import Dataset, Example
    from lorameta.encoder import DatasetSummary

#: The setting with the lowest loss in the leave-one-out comparison on validation rows of the embedded bank, and an
#: exact match within the noise of the best (benchmarks/results/leave_one_out_validation.md). It needs no torch.
DISTANCE = "js"
OPERATOR = "normalized"
TEMPERATURE = 1.0
TOP_K: int | None = None
COMBINER = "delta"


@dataclass(frozen=True)
class Mixture:
    """What the dataset, compared with the bank, asks for: everything but the adapter itself.

    Attributes
    ----------
    ids : tuple of str
        The bank's adapters, in the order of `distances` and `weights`.
    distances, weights : numpy.ndarray of shape (N,)
        float64; the weights are non-negative and sum to one.
    rows : int
        Examples that were summarised.
    seconds : dict of str to float
        Wall time of each step.
    """

    ids: tuple[str, ...]
    distances: np.ndarray
    weights: np.ndarray
    rows: int
    distance: str
    operator: str
    temperature: float
    top_k: int | None
    seconds: dict[str, float] = field(default_factory=dict)

    def ranked(self) -> list[tuple[str, float, float]]:
        """(id, distance, weight), largest weight first, nearest first among equals."""
        order = np.lexsort((np.arange(len(self.ids)), self.distances, -self.weights))
        return [(self.ids[i], float(self.distances[i]), float(self.weights[i])) for i in order]

    def report(self) -> dict[str, Any]:
        """JSON-able account of distances and weights, with the effective number 1/Σw²."""
        from lorameta.operator import effective_number

        return {
            "rows": self.rows,
            "distance": self.distance,
            "operator": self.operator,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "effective_number": round(effective_number(self.weights), 4),
            "nearest": self.ids[int(np.argmin(self.distances))],
            "distances": {name: round(distance, 6) for name, distance, _ in self.ranked()},
            "weights": {name: weight for name, _, weight in self.ranked() if weight > 0},
        }


def summarise(examples: Sequence[Example], bank: AdapterBank, distance: str, *, seed: int = 0) -> DatasetSummary:
    """The summary of `examples` that `distance` needs, made with the bank's own tokenizer and sentence model."""
    from lorameta.distance import DISTANCES
    from lorameta.encoder import SentenceEncoder, TokenEncoder

    if distance not in DISTANCES:
        raise UsageError(f"unknown distance {distance!r}; there are {', '.join(DISTANCES)}")
    if DISTANCES[distance].needs == "sentence":
        model = bank.summaries.sentence_model
        if model not in (None, SentenceEncoder.model):
            raise BankError(
                f"the summaries of the bank {bank.name} were made with the sentence model {model}, not with "
                f"{SentenceEncoder.model}; use a distance on tokens: {', '.join(_names('tokens'))}"
            )
        return SentenceEncoder().encode(examples, seed=seed)
    if bank.tokenizer_path is None:
        raise BankError(f"the bank {bank.name} has no tokenizer.json, which the distance {distance!r} needs")
    encoder = TokenEncoder(bank.tokenizer_path)
    expected = bank.summaries.tokenizer_hash
    if expected is not None and encoder.tokenizer_hash != expected:
        raise BankError(
            f"the tokenizer in {bank.tokenizer_path} is not the one the bank's summaries were made with "
            f"({encoder.tokenizer_hash[:12]} instead of {expected[:12]}); fetch or build the bank again"
        )
    return encoder.encode(examples)


def _names(part: str) -> list[str]:
    from lorameta.distance import DISTANCES

    return [name for name, distance in DISTANCES.items() if distance.needs == part]


def mix(
    dataset: Dataset,
    *,
    bank: AdapterBank | str | PathLike[str] | None = None,
    distance: str = DISTANCE,
    operator: str = OPERATOR,
    temperature: float = TEMPERATURE,
    top_k: int | None = TOP_K,
    seed: int = 0,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
) -> Mixture:
    """Compare a dataset with a bank and turn the distances into mixing weights; no adapter is read.

    The parameters are those of :func:`generate_adapter`.

    Returns
    -------
    Mixture
    """
    from lorameta.bank import AdapterBank
    from lorameta.data import load_examples
    from lorameta.distance import distances
    from lorameta.operator import mixing_weights

    clock = _Clock()
    if not isinstance(bank, AdapterBank):
        bank = AdapterBank.open("embedded" if bank is None else bank)
    examples = load_examples(
        dataset, input_column=input_column, output_column=output_column, require_output=False, encoding=encoding
    )
    clock.lap("read")
    summary = summarise(examples, bank, distance, seed=seed)
    clock.lap("encode")
    found = distances(summary, bank.summaries, distance)
    weights = mixing_weights(found, operator, temperature=temperature, top_k=top_k)
    clock.lap("compare")
    return Mixture(bank.ids, found, weights, len(examples), distance, operator, temperature, top_k, seconds=clock.laps)


def generate_adapter(
    dataset: Dataset,
    *,
    bank: AdapterBank | str | PathLike[str] | None = None,
    distance: str = DISTANCE,
    operator: str = OPERATOR,
    temperature: float = TEMPERATURE,
    top_k: int | None = TOP_K,
    combiner: str = COMBINER,
    rank: int | None = None,
    seed: int = 0,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
) -> Adapter:
    """Make a LoRA adapter for a dataset out of a bank of adapters, without a gradient step.

    Parameters
    ----------
    dataset : path, datasets.Dataset, or iterable of dict
        Rows in one of the forms that :func:`lorameta.load_examples` reads. Outputs are used if they are there.
    bank : AdapterBank, path or str, optional
        An open bank, its directory, or ``"embedded"`` (the default).
    distance : str
        A key of ``lorameta.distance.DISTANCES``; it decides which encoder runs.
    operator : str
        A key of ``lorameta.operator.OPERATORS``.
    temperature : float
        In [0, inf]; 0 is the nearest adapter, inf the uniform average. Its unit is that of the distance
        (``attentional``) or a standard deviation (``normalized``).
    top_k : int, optional
        Keep the `top_k` largest weights and normalise them again.
    combiner : {"delta", "concat", "factor"}
        ``delta`` is the best rank-`rank` approximation of Σ wᵢ ΔWᵢ, ``concat`` the sum itself at the rank of all
        together, ``factor`` what the code of arXiv 2507.01806 does, (Σ wᵢ Bᵢ)(Σ wᵢ Aᵢ).
    rank : int, optional
        Rank of the new adapter; the largest rank among the mixed adapters by default.
    seed : int
        Seed of the fixed-size sample of embeddings.
    input_column, output_column, encoding
        See :func:`lorameta.load_examples`.

    Returns
    -------
    Adapter
        With ``weights`` and ``report``; ``save_pretrained`` writes a PEFT directory.

    Raises
    ------
    DataError, BankError, UsageError, MissingExtraError
        Each says which file, row, adapter or option, and what to do.

    References
    ----------
    Arabpour, Sáez de Ocáriz Borde, Kratsios: arXiv 2507.01806.

    Examples
    --------
    >>> from lorameta import generate_adapter
    >>> rows = [{"input": "Is the word an animal? Answer yes or no.\\n\\nInput: dog\\n\\nOutput:", "output": "yes"},
    ...         {"input": "Is the word an animal? Answer yes or no.\\n\\nInput: cup\\n\\nOutput:", "output": "no"}]
    >>> adapter = generate_adapter(rows)
    >>> round(sum(adapter.weights.values()), 6)
    1.0
    """
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.combiner import combine

    if not isinstance(bank, AdapterBank):
        bank = AdapterBank.open("embedded" if bank is None else bank)
    mixture = mix(
        dataset, bank=bank, distance=distance, operator=operator, temperature=temperature, top_k=top_k, seed=seed,
        input_column=input_column, output_column=output_column, encoding=encoding,
    )  # fmt: skip
    clock = _Clock()
    used = [(name, weight) for name, weight in zip(mixture.ids, mixture.weights, strict=True) if weight > 0]
    adapters = [bank[name] for name, _ in used]
    modules, errors = combine(adapters, np.array([weight for _, weight in used]), method=combiner, rank=rank)
    clock.lap("combine")
    report = mixture.report() | {
        "bank": bank.name,
        "combiner": combiner,
        "rank": max(pair.rank for pair in modules.values()),
        "truncation_error": errors,
        "sources": {name: bank.records[name].provenance() for name, _ in used},
        "seconds": {name: round(value, 3) for name, value in (mixture.seconds | clock.laps).items()},
    }
    return Adapter(modules, bank.base_model, bank.base_revision, dict(report["weights"]), report)


class _Clock:
    """Wall time between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
