"""`operator="auto"`: as much as labelled rows, base model and budget allow, checked on held-out rows.

Without labelled rows, or the base: `multi_task`, where the bank has an adapter of all its tasks, else `transfer`, where
it knows what its adapters were worth, else the paper's setting on distances. With them, in stages: the paper's setting;
`gradient`, one backward pass, which with the distances also chooses the candidates; `trial` and `stack`, from the same
passes over labelled rows; and the readout (`fit`). Each is measured on rows that no stage has seen, as the adapter that
would be delivered, and replaces the one before only if its loss there is lower.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import BankError, DataError, LorametaWarning, UsageError
from lorameta.mixing import budget as budgets
from lorameta.mixing.add_up import add_up
from lorameta.mixing.at_hand import missing, parameters
from lorameta.mixing.weigh import context_of, mixture_of, weigh
from lorameta.operator.choice import Choice, choose
from lorameta.operator.context import draw
from lorameta.operator.gradient import scores
from lorameta.operator.mixture_loss import Measured, MixtureLoss
from lorameta.operator.normalized import normalized
from lorameta.operator.progress import Progress
from lorameta.operator.stack import stack

if TYPE_CHECKING:
    from lorameta.adapter import Adapter
    from lorameta.base_model.load import Base
    from lorameta.data import Example
    from lorameta.mixing.compare import Comparison
    from lorameta.mixing.mixture import Mixture


@dataclass
class Auto:
    """The stages of one dataset, in their order: :meth:`weigh`, then :meth:`fit`.

    Attributes
    ----------
    budget : float
        Seconds on a machine of two cores.
    readout : bool or None
        Whether to fit a readout; None leaves it to the plan.
    seed : int
        Of the rows that are drawn.
    report : dict
        JSON-able: ``chose``, ``why``, ``more``, ``held_out_rows``, ``forecast_seconds`` and ``stages``, a list of
        ``{"name", "loss", "exact_match", "kept"}`` that begins with the base.
    """

    budget: float = budgets.BUDGET
    readout: bool | None = None
    seed: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    base: Base | None = None
    plan: budgets.Stages = field(default_factory=budgets.Stages)
    labelled: Sequence[Example] = ()

    def __post_init__(self) -> None:
        if not 0 < self.budget < float("inf"):
            raise UsageError(f"the budget must be a positive number of seconds; got {self.budget}")

    def weigh(self, found: Comparison, fallback: Choice, progress: Progress) -> Mixture:
        """Find the mixing weights by the best stage.

        Parameters
        ----------
        found : Comparison
        fallback : Choice
            Of an operator on distances alone: the first stage, and without labelled rows or base all there is, unless
            the bank has what ``multi_task`` or ``transfer`` needs.
        progress : Progress
        """
        self.fit_all(found.examples)
        self.plan = self._planned(found)
        if self.readout and not self.plan.fit:
            self.plan = replace(self.plan, fit=len(self.labelled))
        # With the readout on top, multi_task as the first stage was no better (docs/results.md).
        first = weigh(found, fallback if self.plan.gradient else _without_rows(found, fallback))
        if not self.plan.gradient:
            self.report = {"chose": first.operator, "why": self.plan.why, "more": list(self.plan.more), "stages": []}
            return replace(first, auto=self.report)
        from lorameta.base_model.load import load_base, pass_dtype, precision

        order = np.random.default_rng(self.seed).permutation(len(self.labelled))
        held = [self.labelled[i] for i in sorted(order[: self.plan.held_out])]
        seen = replace(found, examples=[self.labelled[i] for i in order[self.plan.held_out :]])
        progress.start(f"loading the base model (about {self.plan.seconds:.0f} s in all)")
        self.base = load_base(found.bank.base_model, found.bank.base_revision, pass_dtype())
        self.report = {
            "why": self.plan.why, "more": list(self.plan.more), "held_out_rows": len(held),
            "forecast_seconds": round(self.plan.seconds, 1), "precision": precision(self.base.model), "stages": [],
        }  # fmt: skip
        begin = time.perf_counter()
        best = self._best(found, [first, *self._stages(seen, progress)], held)
        self.report["chose"] = best.operator
        spent = first.seconds.get("weigh", 0.0) + time.perf_counter() - begin
        return replace(best, auto=self.report, seconds=best.seconds | {"weigh": spent})

    def fit_all(self, examples: Sequence[Example]) -> None:
        """Plan a readout on all labelled rows, if one is asked for, after an operator that was named."""
        self.labelled = [example for example in examples if example.outputs]
        if self.readout and not self.labelled:
            raise DataError(
                f"none of the {len(examples)} rows has an output to fit a readout to; add outputs, or no fit"
            )
        self.plan = budgets.Stages(fit=len(self.labelled) if self.readout else 0)

    def fit(self, adapter: Adapter, progress: Progress) -> Adapter:
        """Fit the readout to labelled rows on top of an adapter, where it is asked for or the plan has room for it."""
        if self.readout is False or not self.plan.fit:
            return adapter
        from lorameta.base_model.load import load_base, pass_dtype
        from lorameta.training.fit import fit_readout

        rows = draw(self.labelled, self.plan.fit, seed=self.seed, operator="fit")
        progress.start("fitting the readout", len(rows))
        begin = time.perf_counter()
        base = self.base or load_base(adapter.base_model, adapter.base_revision, pass_dtype())
        fitted, found = fit_readout(adapter, rows, base=base, progress=progress)
        seconds = dict(adapter.report["seconds"]) | {"fit": round(time.perf_counter() - begin, 3)}
        report = fitted.report | {"seconds": seconds}
        if self.report:
            stage = {"name": "fit", "rows": len(rows), "kept": bool(found.get("kept")), "where": found.get("where")}
            stage |= {"before": found.get("before"), **(found.get("after") or {})}
            self.report["stages"].append({name: value for name, value in stage.items() if value is not None})
            self.report["chose"] += " + fit" if stage["kept"] else ""
            report["auto"] = self.report
        return replace(fitted, report=report)

    def _planned(self, found: Comparison) -> budgets.Stages:
        bank = found.bank
        if not self.labelled:
            return budgets.Stages(
                why="no row has an answer", more=("labelled rows: more adapters could be tried on them",)
            )
        if len(self.labelled) < budgets.LEAST:  # before the libraries are imported for nothing
            return budgets.plan(self.labelled, len(bank), 0, self.budget)
        lacking = missing(bank.base_model, bank.base_revision)
        if lacking is not None:
            return budgets.Stages(why=lacking, more=("with the base model, adapters are tried on the labelled rows",))
        from lorameta.base_model.load import pass_dtype

        size = parameters(bank.base_model, bank.base_revision)
        return budgets.plan(self.labelled, len(bank), size, self.budget, fast=pass_dtype() == "bfloat16")

    def _stages(self, seen: Comparison, progress: Progress) -> list[Mixture]:
        """Return the mixtures that passes over labelled rows give."""
        by_gradient = choose("gradient", options={"rows": self.plan.gradient, "candidates": _most(seen)})
        context = context_of(seen, by_gradient, progress, self.base)
        near = context.candidates
        found = scores(context, near)
        details = {"candidates": len(near), "rows": len(context.rows)}
        weights = context.spread(near, normalized(found, temperature=context.temperature))
        mixtures = [mixture_of(seen, by_gradient, weights, details)]
        if not self.plan.candidates:
            return mixtures
        by_stack = choose("stack", options={"rows": self.plan.stack, "candidates": self.plan.candidates})
        context = context_of(seen, by_stack, progress, self.base)
        context.chosen = near[first_by_either(found, self.plan.candidates)]
        loss = context.mixture_loss(context.chosen)
        weights, solved, alone = stack(loss, progress=progress)
        details = {"candidates": len(context.chosen), "rows": len(context.rows)}
        by_trial = choose("trial", options={"rows": self.plan.stack, "candidates": self.plan.candidates})
        tried = normalized(alone, temperature=by_trial.temperature or 0.0)
        mixtures.append(
            mixture_of(
                seen, by_trial, context.spread(context.chosen, tried),
                details | {"lowest_loss": round(float(alone.min()), 4)},
            )
        )  # fmt: skip
        if weights.any():
            mixtures.append(mixture_of(seen, by_stack, context.spread(context.chosen, weights), details | solved))
        return mixtures

    def _best(self, found: Comparison, mixtures: Sequence[Mixture], held: Sequence[Example]) -> Mixture:
        """Return the mixture with the lowest loss on held-out rows, each measured as the adapter that it gives."""
        base, stages = self.base, self.report["stages"]
        best, lowest = mixtures[0], np.inf
        for mixture in mixtures:
            loss = MixtureLoss(base, [add_up(mixture, found.bank)], held)
            if mixture is best:
                bare = loss.measure(np.zeros(1))
                stages.append(_stage("base", bare))
            measured = loss.measure(np.ones(1))
            kept = measured.loss < lowest
            stages.append(_stage(mixture.operator, measured) | {"kept": kept})
            if kept:
                best, lowest = mixture, measured.loss
        if lowest >= bare.loss:
            warnings.warn(
                f"no mixture beats the base model on {len(held)} held-out rows (loss {lowest:.3f}, the base has "
                f"{bare.loss:.3f}); the bank may hold nothing that helps with this dataset",
                LorametaWarning,
                stacklevel=4,
            )
        return replace(best, rows=mixtures[0].rows, prompts=mixtures[0].prompts)


def first_by_either(slopes: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the adapters, given nearest first, that are among the first by distance or by slope, half
    and half."""
    by_slope = np.argsort(np.argsort(slopes, kind="stable"), kind="stable")
    either = np.minimum(by_slope, np.arange(len(slopes)))
    return np.sort(np.lexsort((by_slope, either))[:count])


def _without_rows(found: Comparison, fallback: Choice) -> Choice:
    """Return ``multi_task`` or ``transfer``, the first that the bank has: in this order they lose less
    (docs/results.md)."""
    from lorameta.operator import multi_task_file, transfer_file

    for name, path in (("multi_task", multi_task_file.path_of), ("transfer", transfer_file.path_of)):
        if not path(found.bank).is_file():
            continue
        choice = choose(name)
        try:
            choice.operator.require(found.bank, found.distance, choice.options)
        except BankError as error:
            warnings.warn(f"the operator {name} is left out: {error}", LorametaWarning, stacklevel=5)
        else:
            return choice
    return fallback


def _stage(name: str, measured: Measured) -> dict[str, Any]:
    return {"name": name, "loss": round(measured.loss, 4), "exact_match": round(measured.exact_match, 4)}


def _most(found: Comparison) -> int:
    """Return the adapters that take part: all that are here; of a bank on the Hub those that are fetched anyway."""
    from lorameta.mixing.weigh import HUB_TOP_K

    on_hub = any(record.hub for record in found.bank.records.values())
    return min(HUB_TOP_K, len(found.bank)) if on_hub else len(found.bank)
