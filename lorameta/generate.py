"""`generate_adapter`: a dataset in, a LoRA adapter out, without a gradient step."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import BankError, LorametaWarning, UsageError
from lorameta.mixing.mixture import Mixture

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.data import Dataset, Example
    from lorameta.encoder import DatasetSummary
    from lorameta.training import RefineSettings

#: The defaults follow the study (benchmarks/results/quality.md): of the settings that need neither labelled rows nor
#: torch, the one with the lowest loss and the highest exact match where one adapter is left out.
DISTANCE = "js"
OPERATOR = "normalized"
TEMPERATURE = 1.0
TOP_K: int | None = None
#: Of a bank whose adapters are on the Hub: as many adapters as ``trial`` looks at, so that a mix fetches these alone.
HUB_TOP_K = 20
COMBINER = "auto"


def summarise(examples: Sequence[Example], bank: AdapterBank, distance: str, *, seed: int = 0) -> DatasetSummary:
    """The summary of `examples` that `distance` needs, made with the bank's own tokenizer and sentence model."""
    from lorameta.distance import DISTANCES

    if distance not in DISTANCES:
        raise UsageError(f"unknown distance {distance!r}; there are {', '.join(DISTANCES)}")
    return _encode(examples, bank, DISTANCES[distance].needs, f"the distance {distance!r}", seed)


def _encode(examples: Sequence[Example], bank: AdapterBank, part: str, what: str, seed: int) -> DatasetSummary:
    from lorameta.encoder import SentenceEncoder, TokenEncoder

    bank.summaries.part(part)  # without it there is nothing to compare with
    if part == "sentence":
        model = bank.summaries.sentence_model
        if model not in (None, SentenceEncoder.model):
            raise BankError(
                f"the summaries of the bank {bank.name} were made with the sentence model {model}, not with "
                f"{SentenceEncoder.model}, which {what} needs; use a distance on tokens: {', '.join(_names('tokens'))}"
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


def _names(part: str) -> list[str]:
    from lorameta.distance import DISTANCES

    return [name for name, distance in DISTANCES.items() if distance.needs == part]


def mix(
    dataset: Dataset,
    *,
    bank: AdapterBank | str | PathLike[str] | None = None,
    distance: str = DISTANCE,
    operator: str = OPERATOR,
    temperature: float | None = None,
    top_k: int | None = TOP_K,
    operator_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
    progress: Callable[[int], object] | None = None,
) -> Mixture:
    """Compare a dataset with a bank and find the mixing weights; only ``search`` reads adapters for that.

    The parameters are those of :func:`generate_adapter`.

    Returns
    -------
    Mixture
    """
    from lorameta.bank import AdapterBank
    from lorameta.data import load_examples
    from lorameta.distance import distances
    from lorameta.encoder.summary import merge
    from lorameta.mixing.novelty import unusual
    from lorameta.operator.weigh import fitted, plan, weigh

    wanted = plan(
        operator, temperature=temperature, top_k=top_k, options=operator_options, defaults=(TEMPERATURE, TOP_K)
    )
    clock = _Clock()
    if not isinstance(bank, AdapterBank):
        bank = AdapterBank.open("embedded" if bank is None else bank)
    examples = load_examples(
        dataset, input_column=input_column, output_column=output_column, require_output=False, encoding=encoding
    )
    if operator == "neural":
        fitted(wanted, bank, distance)  # what is missing shows before the work
    if wanted.dense and wanted.top_k is None and any(record.hub for record in bank.records.values()):
        wanted = replace(wanted, top_k=min(HUB_TOP_K, len(bank)))
    clock.lap("read")
    summary = summarise(examples, bank, distance, seed=seed)
    for part in wanted.parts:
        if not summary.has(part):
            summary = merge(summary, _encode(examples, bank, part, f"the operator {operator!r}", seed))
    clock.lap("encode")
    found = distances(summary, bank.summaries, distance)
    outside = unusual(summary, bank.summaries, found, distance, seed=seed)
    if outside is not None and outside.outside:
        warnings.warn(outside.message(), LorametaWarning, stacklevel=2)
    clock.lap("compare")
    weights, details = weigh(
        wanted, found, bank=bank, distance=distance, summary=summary, examples=examples, seed=seed, progress=progress
    )
    clock.lap("weigh")
    return Mixture(
        bank.ids,
        found,
        weights,
        len(examples),
        distance,
        operator,
        wanted.temperature,
        wanted.top_k,
        clock.laps,
        details,
        outside,
    )


def generate_adapter(
    dataset: Dataset,
    *,
    bank: AdapterBank | str | PathLike[str] | None = None,
    distance: str = DISTANCE,
    operator: str = OPERATOR,
    temperature: float | None = None,
    top_k: int | None = TOP_K,
    operator_options: Mapping[str, Any] | None = None,
    combiner: str = COMBINER,
    rank: int | None = None,
    refine: RefineSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
    progress: Callable[[int], object] | None = None,
) -> Adapter:
    """Make a LoRA adapter for a dataset out of a bank of adapters, without a gradient step unless `refine` asks for it.

    Parameters
    ----------
    dataset : path, datasets.Dataset, or iterable of dict
        Rows in one of the forms that :func:`lorameta.load_examples` reads. Outputs are used if they are there.
    bank : AdapterBank, path or str, optional
        An open bank, its directory, ``"embedded"`` (the default), or the name of a preset or of a bank on the Hub
        whose index is on this machine; adapters that are on the Hub are fetched when they are needed.
    distance : str
        A key of ``lorameta.distance.DISTANCES``; it decides which encoder runs.
    operator : str
        A key of ``lorameta.operator.OPERATORS``. ``neural`` needs an operator that was fitted to the bank (``lorameta
        bank fit``), ``sparse`` the bank's sentence embeddings, ``trial`` and ``search`` labelled rows and the base
        model in memory.
    temperature : float, optional
        In [0, inf]; 0 is the nearest adapter, inf the uniform average. Its unit is that of the distance
        (``attentional``), a standard deviation (``normalized``, ``trial``) or a score (``neural``); 1 by default, 0.25
        for ``trial``. The others have none.
    top_k : int, optional
        Keep the `top_k` largest weights and normalise them again. Not for ``sparse``, ``trial`` and ``search``. By
        default all are kept; of a bank whose adapters are on the Hub, 20, as each has to be fetched.
    operator_options : mapping, optional
        Of ``sparse``: ``penalty`` of the absolute weights (0.1), ``candidates``, how many of the nearest adapters take
        part (all). Of ``trial``: ``candidates`` (20), ``rows``, how many labelled rows are drawn (16): each of the
        nearest adapters is run over them alone, and its loss takes the place of a distance. Of ``search``:
        ``candidates`` (20), ``rows`` (16), ``evaluations`` of the loss on them (40), ``penalty`` of the mean absolute
        weight (0.05); it starts from the weights of ``normalized`` over the candidates and ends with the best that it
        saw, that start included. The loss is that of the exact sum Σ wᵢ ΔWᵢ, also where `combiner` cuts or averages it
        afterwards. Of ``neural``: ``fitted``, a ``NeuralOperator`` to be used in place of the bank's.
    combiner : {"auto", "delta", "concat", "factor"}
        ``auto`` is ``delta`` after ``trial`` and ``search`` and where the A's of the adapters differ, else ``factor``
        (:func:`lorameta.combiner.auto.choose`). ``delta`` is the best rank-`rank` approximation of Σ wᵢ ΔWᵢ, ``concat``
        the sum itself at the rank of all together, ``factor`` what the code of arXiv 2507.01806 does,
        (Σ wᵢ Bᵢ)(Σ wᵢ Aᵢ).
    rank : int, optional
        Rank of the new adapter; the largest rank among the mixed adapters by default.
    refine : RefineSettings or mapping, optional
        Train what was mixed on the same rows, as :func:`lorameta.training.refine` does: ``{"steps": 50}``,
        ``{"minutes": 2}``, ...
    seed : int
        Seed of the fixed-size sample of embeddings, of the search and of its rows.
    input_column, output_column, encoding
        See :func:`lorameta.load_examples`.
    progress : callable, optional
        Called with 1 after each evaluation of a search.

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
    from lorameta.combiner import COMBINERS, combine
    from lorameta.data import load_examples

    if combiner not in ("auto", *COMBINERS):
        raise UsageError(f"unknown combiner {combiner!r}; there are {', '.join(COMBINERS)} and auto")
    if not isinstance(bank, AdapterBank):
        bank = AdapterBank.open("embedded" if bank is None else bank)
    if refine is not None:  # its rows are read twice, and a generator can be read once
        dataset = load_examples(dataset, input_column=input_column, output_column=output_column, encoding=encoding)
        input_column = output_column = None
    mixture = mix(
        dataset, bank=bank, distance=distance, operator=operator, temperature=temperature, top_k=top_k,
        operator_options=operator_options, seed=seed, input_column=input_column, output_column=output_column,
        encoding=encoding, progress=progress,
    )  # fmt: skip
    clock = _Clock()
    used = [(name, weight) for name, weight in zip(mixture.ids, mixture.weights, strict=True) if weight != 0]
    adapters, verified = _read(bank, [name for name, _ in used])
    combiner = mixture.combiner(adapters, combiner)
    modules, errors = combine(
        list(adapters.values()), np.array([weight for _, weight in used]), method=combiner, rank=rank
    )
    clock.lap("combine")
    report = mixture.report() | {
        "bank": bank.name,
        "combiner": combiner,
        "rank": max(pair.rank for pair in modules.values()),
        "truncation_error": errors,
        "summed_rank": sum(adapter.rank for adapter in adapters.values()),
        "absent_modules": _absent(adapters, modules),
        "verified": verified,
        "forecast": mixture.forecast(bank, combiner),
        "sources": {name: bank.records[name].provenance() for name, _ in used},
        "seconds": {name: round(value, 3) for name, value in (mixture.seconds | clock.laps).items()},
    }
    adapter = Adapter(modules, bank.base_model, bank.base_revision, dict(report["weights"]), report)
    if refine is None:
        return adapter
    from lorameta.training.api import refine as train_further

    return train_further(adapter, dataset, settings=refine)


def _read(bank: AdapterBank, names: Sequence[str]) -> tuple[dict[str, Adapter], bool]:
    """The adapters of a mixture, and whether their hashes were verified: in memory if that is little, else lazily."""
    from lorameta.bank.bank import VERIFY_BYTES
    from lorameta.combiner.parallel import each

    bank.fetch(names)
    if sum(bank.records[name].bytes for name in names) > VERIFY_BYTES:
        return {name: bank.lazy(name) for name in names}, False
    return each(bank.__getitem__, names), True


def _absent(adapters: Mapping[str, Adapter], modules: Mapping[str, object]) -> dict[str, list[str]]:
    """Which adapters lack which of the mixed modules; there they counted as zero."""
    lacking = {name: sorted(set(modules) - set(adapter.modules)) for name, adapter in adapters.items()}
    return {name: found for name, found in lacking.items() if found}


class _Clock:
    """Wall time between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
