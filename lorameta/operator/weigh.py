"""From a dataset to mixing weights by any operator: what each needs beside the distances is fetched here."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import DataError, LorametaWarning, UsageError

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank
    from lorameta.data import Example
    from lorameta.encoder import DatasetSummary

#: Defaults of the operators `trial` and `search`: LoraHub's number of candidates, and the labelled rows that are drawn.
CANDIDATES = 20
ROWS = 16
#: Of `trial`, whose losses tell more than distances do: benchmarks/results/quality.md, "other distances".
TRIAL_TEMPERATURE = 0.25


@dataclass(frozen=True)
class Plan:
    """How weights are to be found, checked before any work is done.

    Attributes
    ----------
    operator : str
    temperature : float or None
        None where the operator has none.
    top_k : int or None
    options : dict
        The operator's own, see :func:`lorameta.generate.generate_adapter`.
    """

    operator: str
    temperature: float | None = 1.0
    top_k: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        """Whether every adapter gets a weight, however small, unless `top_k` cuts them off."""
        return self.operator in ("attentional", "normalized", "neural")

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the summaries that are needed, whatever the distance."""
        return ("sentence",) if self.operator == "sparse" else ()


def plan(
    operator: str, *, temperature: float | None, top_k: int | None, options: Mapping[str, Any] | None,
    defaults: tuple[float, int | None] = (1.0, None),
) -> Plan:  # fmt: skip
    """Check what was asked for.

    Parameters
    ----------
    operator : str
    temperature : float or None
        None: it was not given.
    top_k : int or None
    options : mapping or None
    defaults : tuple
        Temperature and top-k of who does not care, which operators without them may ignore.

    Raises
    ------
    UsageError
        An unknown operator or option, a value that cannot work, or an option that would be ignored; all of them.
    """
    from lorameta.operator import OPERATORS

    if operator not in OPERATORS:
        raise UsageError(f"unknown operator {operator!r}; there are {', '.join(OPERATORS)}")
    known, chosen = OPERATORS[operator], dict(options or {})
    found = []
    if temperature is not None and not known.temperature:
        found.append(f"the operator {operator!r} has no temperature; leave it out")
    if top_k not in (None, defaults[1]) and not known.top_k:
        found.append(
            f"the weights of {operator!r} hold together as a whole, so top_k cannot cut them; to let the K nearest "
            "adapters alone take part, set its option candidates"
        )
    for name in sorted(set(chosen) - set(known.options)):
        others = f"it has {', '.join(known.options)}" if known.options else "it has none"
        found.append(f"the operator {operator!r} has no option {name!r}; {others}")
    for name in {"candidates", "evaluations", "rows"} & set(chosen):
        value = chosen[name]
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            found.append(f"{name} must be a whole number of at least 1; got {value!r}")
    if "penalty" in chosen and not (isinstance(chosen["penalty"], (int, float)) and 0 <= chosen["penalty"] < math.inf):
        found.append(f"penalty must be a finite number from 0 up; got {chosen['penalty']!r}")
    if found:
        raise UsageError("; ".join(found))
    default = TRIAL_TEMPERATURE if operator == "trial" else defaults[0]
    used = default if temperature is None else temperature
    return Plan(operator, used if known.temperature else None, top_k if known.top_k else None, chosen)


def weigh(
    plan: Plan,
    distances: np.ndarray,
    *,
    bank: AdapterBank,
    distance: str,
    summary: DatasetSummary,
    examples: Sequence[Example],
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Find the mixing weights.

    Parameters
    ----------
    plan : Plan
    distances : numpy.ndarray of shape (N,)
        From the dataset to those of `bank`, by `distance`.
    bank : AdapterBank
    distance : str
    summary : DatasetSummary
        With :attr:`Plan.parts`.
    examples : sequence of Example
    seed : int
        Of the search and of the rows that it draws.
    progress : callable, optional
        Called with 1 after each evaluation of a search.

    Returns
    -------
    weights : numpy.ndarray of shape (N,), float64
    details : dict
        JSON-able: the options that were used, and what was found on the way.
    """
    from lorameta.operator import mixing_weights

    if plan.operator == "sparse":
        return _sparse(plan.options, distances, bank, summary)
    if plan.operator == "trial":
        return _trial(plan, distances, bank, examples, seed, progress)
    if plan.operator == "search":
        return _search(plan.options, distances, bank, examples, seed, progress)
    temperature = 1.0 if plan.temperature is None else plan.temperature
    if plan.operator != "neural":
        return mixing_weights(distances, plan.operator, temperature=temperature, top_k=plan.top_k), {}
    operator = fitted(plan, bank, distance)
    weights = mixing_weights(distances, operator.weights, temperature=temperature, top_k=plan.top_k)
    return weights, {f"fit_error_{name}": round(value, 4) for name, value in operator.errors.items()}


def fitted(plan: Plan, bank: AdapterBank, distance: str) -> Any:
    """The network of the operator `neural`: the one that was given, or the one that the bank keeps."""
    from lorameta.mixing.neural_fit import load

    given = plan.options.get("fitted")
    return load(bank, distance).operator if given is None else given


def nearest_first(distances: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` smallest distances (or of all, if there are fewer), in their order, ties by place."""
    return np.argsort(distances, kind="stable")[:count]


def _sparse(
    options: Mapping[str, Any], distances: np.ndarray, bank: AdapterBank, summary: DatasetSummary
) -> tuple[np.ndarray, dict[str, Any]]:
    from lorameta.operator.sparse import PENALTY, sparse

    penalty, count = options.get("penalty", PENALTY), min(options.get("candidates", len(bank)), len(bank))
    near = np.sort(nearest_first(distances, count))
    prototypes, mean = bank.summaries.means, summary.mean
    assert prototypes is not None and mean is not None  # the plan's parts  # noqa: PT018
    weights = np.zeros(len(bank))
    weights[near] = sparse(mean, prototypes[near], penalty=penalty)
    return weights, {"penalty": float(penalty), "candidates": count}


def _trial(
    plan: Plan,
    distances: np.ndarray,
    bank: AdapterBank,
    examples: Sequence[Example],
    seed: int,
    progress: Callable[[int], object] | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Each of the nearest adapters alone on a few labelled rows: one forward pass over the rows an adapter."""
    from lorameta.evaluate import Scorer
    from lorameta.operator import mixing_weights
    from lorameta.operator.mixture_loss import MixtureLoss

    rows = draw(examples, plan.options.get("rows", ROWS), seed=seed, operator="trial")
    near = nearest_first(distances, plan.options.get("candidates", CANDIDATES))
    bank.fetch(bank.ids[index] for index in near)
    scorer, losses = Scorer(bank.base_model, revision=bank.base_revision), np.empty(len(near))
    for place, index in enumerate(near):
        losses[place] = MixtureLoss(scorer, [bank[bank.ids[index]]], rows)(np.ones(1))
        if progress is not None:
            progress(1)
    weights = np.zeros(len(bank))
    weights[near] = mixing_weights(losses, "normalized", temperature=plan.temperature or 0.0)
    return weights, {"candidates": len(near), "rows": len(rows), "lowest_loss": round(float(losses.min()), 4)}


def _search(
    options: Mapping[str, Any],
    distances: np.ndarray,
    bank: AdapterBank,
    examples: Sequence[Example],
    seed: int,
    progress: Callable[[int], object] | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    from lorameta.evaluate import Scorer
    from lorameta.operator import mixing_weights
    from lorameta.operator.mixture_loss import MixtureLoss
    from lorameta.operator.search import EVALUATIONS, PENALTY, require_cma, search

    require_cma()
    rows = draw(examples, options.get("rows", ROWS), seed=seed, operator="search")
    near = nearest_first(distances, options.get("candidates", CANDIDATES))
    bank.fetch(bank.ids[index] for index in near)
    penalty, budget = options.get("penalty", PENALTY), options.get("evaluations", EVALUATIONS)
    measured = MixtureLoss(
        Scorer(bank.base_model, revision=bank.base_revision), [bank[bank.ids[index]] for index in near], rows
    )
    losses: list[float] = []

    def loss(weights: np.ndarray) -> float:
        losses.append(measured(weights))
        return losses[-1]

    start = mixing_weights(distances[near], "normalized")
    weights = np.zeros(len(bank))
    base = measured(np.zeros(len(near)))
    weights[near], trace = search(loss, start, evaluations=budget, penalty=penalty, seed=seed, progress=progress)
    found = losses[int(np.argmin(trace))]
    if found >= base:
        warnings.warn(
            f"no mixture that search tried beats the base model on the {len(rows)} rows that it looked at (loss "
            f"{found:.3f}, the base has {base:.3f}); try more evaluations or candidates, or use the base as it is",
            LorametaWarning,
            stacklevel=4,
        )
    return weights, {
        "candidates": len(near),
        "rows": len(rows),
        "evaluations": len(trace),
        "penalty": float(penalty),
        "loss_at_start": round(losses[0], 4),
        "loss": round(found, 4),
        "loss_of_base": round(base, 4),
    }


def draw(examples: Sequence[Example], count: int, *, seed: int, operator: str) -> list[Example]:
    """At most `count` labelled rows, drawn by seed, in their order.

    Raises
    ------
    DataError
        No row has an output.
    """
    labelled = [example for example in examples if example.outputs]
    if not labelled:
        raise DataError(
            f"none of the {len(examples)} rows has an output, and the operator {operator!r} measures losses on "
            "labelled rows; add outputs (--output-column), or take another operator"
        )
    if len(labelled) <= count:
        return labelled
    chosen = np.random.default_rng(seed).choice(len(labelled), size=count, replace=False)
    return [labelled[index] for index in sorted(chosen)]
