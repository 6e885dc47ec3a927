"""`generate_adapter`: a dataset in, a LoRA adapter out, without a gradient step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from lorameta.mixing.budget import BUDGET
from lorameta.mixing.mixture import Mixture
from lorameta.operator.progress import Progress

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.bank import AdapterBank
    from lorameta.data import Dataset
    from lorameta.training import RefineSettings

#: The distance of the study (benchmarks/results/quality.md) with the lowest loss and the highest exact match, of those
#: that need neither labelled rows nor torch.
DISTANCE = "js"
OPERATOR = "auto"
COMBINER = "auto"


def generate_adapter(
    dataset: Dataset,
    *,
    bank: AdapterBank | str | PathLike[str] | None = None,
    distance: str = DISTANCE,
    operator: str = OPERATOR,
    temperature: float | None = None,
    top_k: int | None = None,
    operator_options: Mapping[str, Any] | None = None,
    budget: float = BUDGET,
    combiner: str = COMBINER,
    rank: int | None = None,
    fit: bool | None = None,
    refine: RefineSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    input_column: str | None = None,
    output_column: str | None = None,
    encoding: str = "utf-8",
    progress: Progress | Callable[[int], object] | None = None,
) -> Adapter:
    """Make a LoRA adapter for a dataset out of a bank of adapters, without a gradient step unless `refine` asks for it.

    By default it takes what it is given: of rows without answers the distances alone decide; with labelled rows and the
    base model on this machine, adapters are tried on them, in about `budget` seconds.

    Parameters
    ----------
    dataset : path, datasets.Dataset, or iterable of dict
        Rows in one of the forms that :func:`lorameta.load_examples` reads. Outputs are used if they are there.
    bank : AdapterBank, path or str, optional
        An open bank, its directory, or a name: of one of lorameta's own (``"smollm2"`` by default), of a preset, or of
        a bank on the Hub whose index is on this machine. Adapters that are on the Hub are fetched when they are needed.
    distance : str
        A key of ``lorameta.distance.DISTANCES``; it decides which encoder runs.
    operator : str
        ``"auto"``, or a key of ``lorameta.operator.OPERATORS``, where each has its line. Without labelled rows or base
        model, ``auto`` takes the first of ``multi_task``, ``transfer`` and ``normalized`` for which the bank has what
        it needs. With them, as far as `budget` goes, the gradient at the uniform mixture (one backward pass, no step)
        chooses candidates, ``trial`` and ``stack`` mix them, and a readout is fitted. Held-out rows decide after each
        stage whether it is kept; ``report["auto"]`` tells.
    temperature : float, optional
        In [0, inf]; 0 is the nearest adapter, inf the uniform average. Its unit is that of the distance
        (``attentional``), a standard deviation (``normalized``, ``trial``, ``gradient``) or a score (``neural``). The
        others have none. Given without an operator, it means ``normalized``.
    top_k : int, optional
        Keep the `top_k` largest weights and normalise them again. Not for ``sparse``, ``trial`` and ``search``. By
        default all are kept; of a bank whose adapters are on the Hub, 20, as each has to be fetched.
    operator_options : mapping, optional
        By name; ``OPERATORS[operator].options`` lists them with their meaning and default.
    budget : float
        Seconds on a machine of two cores that ``auto`` may plan for. The plan depends on sizes alone, and on whether
        the processor multiplies in bfloat16, so that the same call gives the same adapter on all machines that do, or
        do not, in more or less time.
    fit : bool, optional
        Whether to fit a readout to the labelled rows afterwards (:func:`lorameta.training.fit.fit_readout`). None:
        where ``auto`` has time for it.
    combiner : {"auto", "delta", "concat", "factor"}
        ``auto`` is ``delta`` after operators that run the model and where the A's of the adapters differ, else
        ``factor`` (:func:`lorameta.combiner.auto.choose`). ``delta`` is the best rank-`rank` approximation of
        Σ wᵢ ΔWᵢ, ``concat`` the sum itself at the rank of all together, ``factor`` what the code of arXiv 2507.01806
        does, (Σ wᵢ Bᵢ)(Σ wᵢ Aᵢ).
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
    from lorameta.data import load_examples
    from lorameta.mixing.add_up import add_up, check_combiner
    from lorameta.mixing.mix import mix_rows

    check_combiner(combiner)
    columns = {"input_column": input_column, "output_column": output_column, "encoding": encoding}
    if refine is not None:  # its rows are read twice, and a generator can be read once
        dataset, columns = load_examples(dataset, **columns), {}
    mixture, auto, opened = mix_rows(
        dataset, bank, distance=distance, operator=operator, temperature=temperature, top_k=top_k,
        operator_options=operator_options, budget=budget, fit=fit, seed=seed, columns=columns, progress=progress,
    )  # fmt: skip
    adapter = add_up(mixture, opened, combiner=combiner, rank=rank)
    adapter = auto.fit(adapter, Progress.of(progress))
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
    top_k: int | None = None,
    operator_options: Mapping[str, Any] | None = None,
    budget: float = BUDGET,
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
    from lorameta.mixing.mix import mix_rows

    columns = {"input_column": input_column, "output_column": output_column, "encoding": encoding}
    return mix_rows(
        dataset, bank, distance=distance, operator=operator, temperature=temperature, top_k=top_k,
        operator_options=operator_options, budget=budget, fit=False, seed=seed, columns=columns, progress=progress,
    )[0]  # fmt: skip
