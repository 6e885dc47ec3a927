"""`fit_readout`: labelled rows in, an update of the last block or the head out, by a convex fit and no gradient step.

The model is run over the rows once, forwards. Nothing is propagated back through it: what is fitted is the end of the
model alone, on the states that the pass kept. Held-out rows decide the strength of the penalty, the rank, where the
update goes, and whether it is kept at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lorameta.adapter import Adapter, LoraPair
from lorameta.base_model.attach import attached
from lorameta.base_model.load import Base, load_base
from lorameta.base_model.templates import ChatTemplate, about_rows, rendered
from lorameta.data import Example
from lorameta.errors import DataError, UsageError
from lorameta.training.fit.block import BlockFit
from lorameta.training.fit.choose import RANK, Candidate, Factors, ReadoutFit, candidates, folds_of, joined, preferred
from lorameta.training.fit.head import HeadFit
from lorameta.training.fit.solver import predict
from lorameta.training.fit.states import AnswerStates, Passed, Readout, collect, find_readout
from lorameta.training.rows import encode_rows

__all__ = ["WHERE", "fit_readout"]

WHERE = ("auto", "block", "head", "both")
#: Share of a budget that the pass over the rows may take, and that all choices may have taken when they end.
PASS, CHOICES = 0.5, 0.8


def fit_readout(
    adapter: Adapter | None,
    examples: Iterable[Example],
    *,
    base: Base | str | os.PathLike[str],
    where: str = "auto",
    rank: int | None = None,
    held_out: float = 0.25,
    budget: float | None = None,
    max_length: int = 1024,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[Adapter, dict[str, Any]]:
    """Fit the end of a model to labelled rows, on top of an adapter or on the base as it is.

    Parameters
    ----------
    adapter : Adapter or None
        What the states come from; it is not changed. None is the base alone.
    examples : iterable of Example
        Labelled rows, each of which goes through the model once.
    base : Base, path or Hub id
        The base model, in memory (anything with ``model`` and ``tokenizer``) or where it is to be loaded from.
    where : {"auto", "block", "head", "both"}
        ``block`` updates the last ``down_proj``, ``head`` the language-model head (a LoRA on ``lm_head``). ``auto``
        fits each and takes the last block unless the head's held-out loss is smaller by more than 5 %.
    rank : int, optional
        Of the update; 32 by default, or what the layers have.
    held_out : float
        Share of the rows by which the penalty, the place and whether there is an update at all are decided. Up to
        400 answer tokens, each row is held out once. The update that is returned is then fitted to all rows.
    budget : float, optional
        Seconds. Where the forecast after the first batch is longer, rows are left out, drawn by `seed`.
    max_length : int
        Longest row in tokens; longer prompts lose their beginning.
    seed : int
    progress : callable, optional
        Called with the number of rows after each batch.

    Returns
    -------
    adapter : Adapter
        With the update, or what was given: the update is kept only if the held-out loss falls and no more rows are
        answered wrongly. If it is not, and there was no adapter, one whose update is zero.
    report : dict
        JSON-able; also in ``adapter.report["fit"]``.

    Raises
    ------
    DataError
        There are no rows, or some have no output.
    UsageError
        An option cannot work, or the model has no head or last block of the kind that was asked for.
    BankError
        The adapter was made for another base.
    """
    _check(where, rank, held_out, budget)
    begin = time.perf_counter()
    examples = list(examples)
    if not examples:
        raise DataError("there are no rows to fit to")
    base = base if hasattr(base, "model") and hasattr(base, "tokenizer") else load_base(os.fspath(base))
    model, tokenizer = base.model, base.tokenizer
    template = "" if adapter is None else str(adapter.report.get("prompt_template", ""))
    chat = lambda: ChatTemplate.of(tokenizer, str(getattr(base, "name", "")))  # noqa: E731
    examples = rendered(template, examples, chat)
    rows, shortened = encode_rows(tokenizer, examples, "labelled", max_length)
    readout = find_readout(model, min(rows, key=lambda row: len(row.ids)))
    forms = _forms(where, readout)
    modules = {} if adapter is None else dict(adapter.modules)
    loaded = time.perf_counter() - begin
    passed = collect(
        model, readout, modules, rows, pad=tokenizer.pad_token_id, seed=seed, progress=progress,
        budget=None if budget is None else PASS * max(budget - loaded, 0.1),
    )  # fmt: skip
    report: dict[str, Any] = {
        "rows": len(examples),
        "used_rows": len(passed.used),
        "shortened_rows": shortened,
        "tokens": passed.tokens,
        "answer_tokens": len(passed.states.gold),
        "forecast_seconds": round(passed.forecast, 3),
        "kept": False,
    }
    solving = time.perf_counter()
    with attached(model, {name: pair for name, pair in modules.items() if name == readout.head_name}):
        new, decided = decide(passed, examples, readout, modules, forms, rank, held_out, budget, begin, seed)
    now = time.perf_counter()
    seconds = {"pass": passed.seconds, "solve": now - solving, "total": now - begin}
    report |= decided | {"seconds": {name: round(value, 3) for name, value in seconds.items()}}
    if adapter is None and not new:
        new = {readout.down_name or readout.head_name: _zero(readout)}
    fitted = Adapter(
        {**modules, **{name: _added(modules.get(name), pair) for name, pair in new.items()}},
        str(getattr(base, "name", "")) if adapter is None else adapter.base_model,
        getattr(base, "revision", None) if adapter is None else adapter.base_revision,
        {} if adapter is None else dict(adapter.weights),
        (about_rows("", examples, chat) if adapter is None else dict(adapter.report)) | {"fit": report},
        "" if adapter is None else adapter.name,
    )
    return fitted, report


def decide(
    passed: Passed, examples: list[Example], readout: Readout, modules: Mapping[str, LoraPair], forms: tuple[str, ...],
    rank: int | None, held_out: float, budget: float | None, begin: float, seed: int,
) -> tuple[dict[str, LoraPair], dict[str, Any]]:  # fmt: skip
    """Return the update by module, empty if none is kept, and what the report says of the decision."""
    states = passed.states

    def make(part: str, known: AnswerStates) -> ReadoutFit:
        if part == "head":
            return HeadFit(known, readout.scale, readout.head.weight.shape[0])
        return BlockFit(known, readout, modules)

    folds = folds_of(states, examples, held_out, seed)
    if not folds:
        return {}, {"reason": "fewer than four different rows, of which none can be held out"}
    deadline = None if budget is None else begin + CHOICES * budget
    found = candidates(folds, make, forms, _rank(rank, readout, forms), rank is not None, deadline)
    before = joined([predict(held) for _, held in folds])
    name = preferred(found)
    best: Candidate = found[name]
    report: dict[str, Any] = {
        "where": name,
        "held_out_rows": len(np.unique(before.rows)),
        "folds": len(folds),
        "before": {"loss": before.mean_loss(), "exact_match": before.exact_match()},
        "after": {"loss": best.scores.mean_loss(), "exact_match": best.scores.exact_match()},
        "candidates": {form: one.as_dict() for form, one in found.items()},
        "rank": {part.where: part.rank for part in best.parts},
        "penalty": {part.where: part.penalty for part in best.parts},
        "scale": {part.where: part.scale for part in best.parts},
    }
    if not best.scores.mean_loss() < before.mean_loss():
        return {}, report | {"reason": "the loss on held-out rows did not fall"}
    if best.scores.exact_match() < before.exact_match():
        return {}, report | {"reason": "fewer held-out rows were answered right"}
    update: dict[str, LoraPair] = {}
    for part in best.parts:
        fit = make(part.where, states)
        deadline = None if budget is None else max(begin + budget, time.perf_counter() + 1.0)
        coefficients = fit.solve(part.penalty, fit.start(), deadline)
        A, B = fit.cut(coefficients, part.rank, part.penalty if part.again else None, deadline)
        factors: Factors = A, np.float32(part.scale) * B
        update[readout.head_name if part.where == "head" else readout.down_name] = LoraPair(*factors)
        if part is not best.parts[-1]:
            states = fit.applied(states, *factors)
    return update, report | {"kept": True, "reason": "better on held-out rows"}


def _check(where: str, rank: int | None, held_out: float, budget: float | None) -> None:
    if where not in WHERE:
        raise UsageError(f"unknown place {where!r} for the fit; there are {', '.join(WHERE)}")
    if rank is not None and rank < 1:
        raise UsageError(f"rank {rank} must be at least 1")
    if not 0 < held_out <= 0.5:
        raise UsageError(f"held_out {held_out} must be above 0 and at most 0.5")
    if budget is not None and budget <= 0:
        raise UsageError(f"the budget of {budget} seconds must be positive")


def _forms(where: str, readout: Readout) -> tuple[str, ...]:
    if where == "auto":
        return ("block", "head") if readout.down is not None else ("head",)
    if where != "head" and readout.down is None:
        raise UsageError(
            "the last block of this model has no down_proj that writes to the residual stream, so that only its head "
            "can be fitted; say where='head'"
        )
    return (where,)


def _rank(rank: int | None, readout: Readout, forms: tuple[str, ...]) -> int:
    """Return the rank of the update: none above what the smallest of the layers has."""
    sizes = [*readout.head.weight.shape]
    if forms != ("head",):
        sizes += readout.down.weight.shape
    return min(rank or RANK, *sizes)


def _added(known: LoraPair | None, pair: LoraPair) -> LoraPair:
    """Return the sum of two updates of one layer: their ranks add, and nothing is lost."""
    if known is None:
        return pair
    B = np.concatenate([np.float32(known.scaling) * known.B, np.float32(pair.scaling) * pair.B], axis=1)
    return LoraPair(np.concatenate([known.A, pair.A]), B)


def _zero(readout: Readout) -> LoraPair:
    rows, columns = (readout.down if readout.down is not None else readout.head).weight.shape
    return LoraPair(np.zeros((1, columns)), np.zeros((rows, 1)))
