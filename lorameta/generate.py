"""`generate_adapter`: a dataset in, a LoRA adapter out, without a gradient step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from lorameta.mixing.mixture import Mixture
from lorameta.operator.progress import Progress

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.data import Dataset
    from lorameta.training import RefineSettings

#: The defaults follow the study (benchmarks/results/quality.md): of the settings that need neither labelled rows nor
#: torch, the one with the lowest loss and the highest exact match where one adapter is left out.
DISTANCE = "js"
OPERATOR = "normalized"
TEMPERATURE = 1.0
TOP_K: int | None = None
COMBINER = "auto"


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
    progress: Progress | Callable[[int], object] | None = None,
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
    from lorameta.bank import AdapterBank
    from lorameta.bank.locate import DEFAULT
    from lorameta.data import load_examples
    from lorameta.mixing.add_up import add_up, check_combiner

    check_combiner(combiner)
    if not isinstance(bank, AdapterBank):
        bank = AdapterBank.open(DEFAULT if bank is None else bank)
    if refine is not None:  # its rows are read twice, and a generator can be read once
        dataset = load_examples(dataset, input_column=input_column, output_column=output_column, encoding=encoding)
        input_column = output_column = None
    mixture = mix(
        dataset, bank=bank, distance=distance, operator=operator, temperature=temperature, top_k=top_k,
        operator_options=operator_options, seed=seed, input_column=input_column, output_column=output_column,
        encoding=encoding, progress=progress,
    )  # fmt: skip
    adapter = add_up(mixture, bank, combiner=combiner, rank=rank)
    if refine is None:
        return adapter
    from lorameta.training.api import refine as train_further

    return train_further(adapter, dataset, settings=refine)


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
    progress: Progress | Callable[[int], object] | None = None,
) -> Mixture:
    """Compare a dataset with a bank and find the mixing weights, without making the adapter.

    The parameters are those of :func:`generate_adapter`.

    Returns
    -------
    Mixture
    """
    from lorameta.bank import AdapterBank
    from lorameta.bank.locate import DEFAULT
    from lorameta.data import load_examples
    from lorameta.mixing.compare import compare
    from lorameta.mixing.weigh import weigh
    from lorameta.operator.choice import choose

    choice = choose(operator, temperature=temperature, top_k=top_k, options=operator_options, defaults=(None, TOP_K))
    if not isinstance(bank, AdapterBank):
        bank = AdapterBank.open(DEFAULT if bank is None else bank)
    examples = load_examples(
        dataset, input_column=input_column, output_column=output_column, require_output=False, encoding=encoding
    )
    choice.operator.require(bank, distance, choice.options)  # what is missing shows before the work
    also = [part for part in choice.operator.needs if part == "sentence"]
    found = compare(examples, bank, distance, also=also, seed=seed)
    return weigh(found, choice, progress=Progress.of(progress))
