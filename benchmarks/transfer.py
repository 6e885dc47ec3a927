"""Weights without labels from what adapters of the bank are worth to its other tasks, beside distances alone.

The worth of adapter j to task i is the slope of the loss on rows of i towards j at the uniform mixture, per unit of the
update's norm, standardised over the bank: one backward pass a task (`lorameta.operator.gradient`). It is predicted as
μⱼ + βᵀ zᵢⱼ: the mean worth of j to tasks of other sources, and a ridge on standardised distances, fitted without the
task's source on either side. Weights are softmin of the standardised prediction, over all adapters but the task's own.

    python -m benchmarks.transfer --data DATA --tasks 24

Validation rows alone are used: the first 12 of a task for its slopes, the last 16 for the loss of the mixtures.
Resumable, in `.work/transfer`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, stamp, write
from benchmarks.quality.case import sources_of
from benchmarks.rows import read_parts
from lorameta.bank import AdapterBank
from lorameta.base_model.load import load_base
from lorameta.distance import distance_matrix
from lorameta.mixing.neural_fit import fittable
from lorameta.mixing.transfer_fit import ROWS, of_task
from lorameta.operator.context import Context
from lorameta.operator.mixture_loss import MixtureLoss
from lorameta.operator.normalized import normalized
from lorameta.operator.transfer import RIDGE, standardised_rows

WORK = ROOT / ".work" / "transfer"
LOSS_ROWS = 16
PAPER = "normalized js"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tasks' rows, TASK.jsonl or tasks/")
    parser.add_argument("--bank", default="smollm2")
    parser.add_argument("--tasks", type=int, default=24, help="tasks whose mixtures are measured")
    arguments = parser.parse_args()
    bank = AdapterBank.open(arguments.bank)
    base = load_base(bank.base_model, bank.base_revision, "float32")
    adapters = Context(np.zeros(len(bank)), bank=bank).adapters(range(len(bank)))
    worth = standardised_rows(all_worths(bank, base, adapters, arguments.data))
    distances = {name: distance_matrix(bank.summaries, name) for name in fittable(bank)}
    predicted = {
        "μ": predictions(bank, worth, {}),
        "μ + js": predictions(bank, worth, {"js": distances["js"]}),
        "μ + all distances": predictions(bank, worth, distances),
    }
    ways: dict[str, Callable[[int], np.ndarray]] = {"uniform": lambda i: np.ones(len(bank) - 1) / (len(bank) - 1)}
    for temperature in (0.5, 1.0, 2.0):
        ways[f"{PAPER}, T = {temperature}"] = weigh(distances["js"], temperature)
    for name, found in predicted.items():
        for temperature in (0.5, 1.0, 2.0) if name == "μ + js" else (1.0,):
            ways[f"{name}, T = {temperature}"] = weigh(-found, temperature)
    tasks = [int(i) for i in np.random.default_rng(1).permutation(len(bank))[: arguments.tasks]]
    losses = [measure(bank, base, adapters, arguments.data, i, ways) for i in tasks]
    worths = {name: rank_correlation(values, worth) for name, values in predicted.items()}
    worths[PAPER] = rank_correlation(-distances["js"], worth)
    result = stamp(vars(arguments)) | {
        "bank": bank.name, "tasks": len(tasks), "slope_rows": ROWS, "loss_rows": LOSS_ROWS, "ridge": RIDGE,
        "rank_correlation_with_worth": worths,
        "mixtures": {name: summary(losses, name) for name in losses[0]},
        "by_task": {bank.ids[i]: found for i, found in zip(tasks, losses, strict=True)},
    }  # fmt: skip
    write("transfer", result)


def all_worths(bank: AdapterBank, base: Any, adapters: list[Any], data: Path) -> np.ndarray:
    """The worth of each adapter (columns) to each task (rows)."""
    WORK.mkdir(parents=True, exist_ok=True)
    norms = np.array([adapter.norm() for adapter in adapters])
    found = np.zeros((len(bank), len(bank)))
    for i, task in enumerate(bank.ids):
        kept = WORK / f"{bank.content_hash[:12]}-{task}.npy"
        if not kept.exists():
            np.save(kept, of_task(base, adapters, norms, read_parts(data, task).validation, i))
        found[i] = np.load(kept)
    return found


def predictions(bank: AdapterBank, worth: np.ndarray, distances: dict[str, np.ndarray]) -> np.ndarray:
    """Worth of each adapter to each task, as predicted from the tasks and adapters of other sources."""
    source = np.array(list(sources_of(bank).values()))
    z = (
        np.stack([standardised_rows(one) for one in distances.values()], -1)
        if distances
        else np.zeros((*worth.shape, 0))
    )
    other = source[:, None] != source[None, :]
    found = np.zeros(worth.shape)
    for name in np.unique(source):
        known = (source != name)[:, None] & other
        mean = np.nanmean(np.where(known, worth, np.nan), axis=0)
        seen = known & (source != name)[None, :]
        x, y = z[seen], (worth - mean)[seen]
        beta = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
        found[source == name] = mean + np.nan_to_num(z[source == name]) @ beta
    return found


def weigh(values: np.ndarray, temperature: float) -> Callable[[int], np.ndarray]:
    """Return the normalized operator on a row of a matrix without its diagonal."""
    return lambda i: normalized(np.delete(values[i], i), temperature=temperature)


def measure(
    bank: AdapterBank, base: Any, adapters: list[Any], data: Path, i: int, ways: dict[str, Callable[[int], np.ndarray]]
) -> dict[str, list[float]]:
    """Loss and exact match of the mixtures of one task, on validation rows that its slopes did not see."""
    kept = WORK / f"{bank.content_hash[:12]}-{bank.ids[i]}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    loss = MixtureLoss(base, adapters, read_parts(data, bank.ids[i]).validation[-LOSS_ROWS:])
    weights = {"base": np.zeros(len(bank))} | {name: np.insert(way(i), i, 0.0) for name, way in ways.items()}
    measured = {name: loss.measure(one) for name, one in weights.items()}
    found = {name: [round(one.loss, 4), round(one.exact_match, 4)] for name, one in measured.items()}
    kept.write_text(json.dumps(found))
    return found


def rank_correlation(values: np.ndarray, worth: np.ndarray) -> float:
    """Spearman's rank correlation of a row with the worth of the adapters, in the mean over tasks."""
    from scipy.stats import spearmanr

    rows = [spearmanr(np.delete(values[i], i), np.delete(worth[i], i))[0] for i in range(len(worth))]
    return round(float(np.mean(rows)), 3)


def summary(losses: list[dict[str, list[float]]], name: str) -> dict[str, float]:
    """Means over tasks, and the difference in loss to the paper's setting with its standard error."""
    here = np.array([found[name] for found in losses])
    less = here[:, 0] - np.array([found[f"{PAPER}, T = 1.0"][0] for found in losses])
    return {
        "loss": round(float(here[:, 0].mean()), 4),
        "exact_match": round(float(here[:, 1].mean()), 4),
        "loss_difference": round(float(less.mean()), 4),
        "standard_error": round(float(less.std(ddof=1) / len(less) ** 0.5), 4),
    }


if __name__ == "__main__":
    main()
