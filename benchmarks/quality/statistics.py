"""Means, intervals and paired differences over tasks; forecasts; how often a dataset is called outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.methods import BASE, CONTROLS, METHODS, OWN
from benchmarks.rows import read_parts
from lorameta.bank import AdapterBank
from lorameta.data import Example
from lorameta.mixing.forecast import LEVEL, interval

METRICS = ("exact_match", "rouge_l", "loss")
#: Costs that are kept with each score, and what their mean over tasks is called.
COSTS = ("labelled", "forward_tokens", "seconds", "cpu_seconds")
DRAWS = 5_000
Scores = dict[str, dict[str, dict[str, Any]]]


class Boot:
    """Bootstrap over tasks: the same draws for every method, so that differences are of the same tasks."""

    def __init__(self, tasks: int, seed: int = 0) -> None:
        self.draws = np.random.default_rng(seed).integers(0, tasks, (DRAWS, tasks))

    def mean(self, values: np.ndarray) -> np.ndarray:
        return values[self.draws].mean(axis=1)

    @staticmethod
    def interval(values: np.ndarray) -> list[float]:
        """The middle 95 % of the draws that are finite."""
        finite = values[np.isfinite(values)]
        return [round(float(q), 4) for q in np.quantile(finite, (0.025, 0.975))] if len(finite) else [0.0, 0.0]


def columns(scores: Scores, name: str, metric: str) -> np.ndarray:
    return np.array([found[name][metric] for found in scores.values()])


def comparison(scores: Scores, names: list[str]) -> dict[str, dict[str, Any]]:
    """One line per method: means over tasks, the share of the gap closed, the differences from the controls."""
    boot = Boot(len(scores))
    ends = {m: (columns(scores, BASE, m), columns(scores, OWN, m)) for m in METRICS}
    table: dict[str, dict[str, Any]] = {}
    for name in names:
        line: dict[str, Any] = {"group": METHODS[name].group}
        for metric in METRICS:
            values = columns(scores, name, metric)
            base, own = ends[metric]
            line[metric] = round(float(values.mean()), 4)
            line[f"{metric}_interval"] = boot.interval(boot.mean(values))
            with np.errstate(divide="ignore", invalid="ignore"):
                gap = float((values.mean() - base.mean()) / (own.mean() - base.mean()))
                gaps = (boot.mean(values) - boot.mean(base)) / (boot.mean(own) - boot.mean(base))
            line[f"{metric}_gap_closed"] = round(gap, 4) + 0.0 if np.isfinite(gap) else None  # no -0.0
            line[f"{metric}_gap_closed_interval"] = boot.interval(gaps)
            for control in (c for c in CONTROLS if c in names and c != name):
                difference = values - columns(scores, control, metric)
                line.setdefault("over", {}).setdefault(control, {})[metric] = [
                    round(float(difference.mean()), 4),
                    *boot.interval(boot.mean(difference)),
                ]
        line |= {cost: round(float(columns(scores, name, cost).mean()), 2) for cost in COSTS}
        numbers = [found[name].get("effective_number") for found in scores.values()]
        if None not in numbers:
            line["effective_number_median"] = round(float(np.median(numbers)), 2)
        table[name] = line
    return table


def updates(bank: AdapterBank) -> dict[str, Any]:
    """Norms of the bank's updates, and the cosines between them."""
    from lorameta.combiner.gram import gram

    G = gram([bank[name] for name in bank.ids])
    norms = np.sqrt(np.diag(G))
    cosine = (G / np.outer(norms, norms))[~np.eye(len(G), dtype=bool)]
    return {
        "update_norm_median": round(float(np.median(norms)), 3),
        "update_cosine_median": round(float(np.median(cosine)), 4),
        "update_cosine_90_percent": [round(float(q), 4) for q in np.quantile(cosine, (0.05, 0.95))],
        "uniform_mixture_norm_over_median": round(float(np.sqrt(G.mean()) / np.median(norms)), 4),
    }


def gains(scores: Scores, name: str) -> dict[str, np.ndarray]:
    """What a method gains over the base, by metric; positive is better."""
    return {
        metric: (-1 if metric == "loss" else 1) * (columns(scores, name, metric) - columns(scores, BASE, metric))
        for metric in METRICS
    }


def forecasts(p_values: np.ndarray, gain: dict[str, np.ndarray], sources: tuple[str, ...]) -> dict[str, Any]:
    """Forecast every task from the record without its source, and count how often the interval holds what came."""
    found: dict[str, Any] = {"level": LEVEL}
    for metric, values in gain.items():
        made = []
        for i, source in enumerate(sources):
            others = np.array([s != source for s in sources])
            made.append(interval(p_values[i], p_values[others], values[others]))
        estimate, low, high = np.array(made).T
        inside = (low <= values) & (values <= high)
        varied = np.std(estimate) > 0 and np.std(values) > 0
        found[metric] = {
            "covered": round(float(inside.mean()), 4),
            "width_mean": finite(float((high - low).mean())),
            "correlation": round(float(np.corrcoef(estimate, values)[0, 1]), 4) if varied else None,
            "error_mean_absolute": round(float(np.abs(estimate - values).mean()), 4),
            "error_mean_absolute_of_the_mean": round(float(np.abs(values - values.mean()).mean()), 4),
            "by_task": [[finite(float(v)) for v in row] for row in np.column_stack([estimate, low, high, values])],
        }
    return found


def finite(value: float) -> float | None:
    """Rounded; None for what JSON has no number for."""
    return round(value, 4) if np.isfinite(value) else None


def outside_check(bank: AdapterBank, data: Path, tasks: list[str], distance: str) -> dict[str, Any]:
    """How often a dataset is called outside: members that are left out, and the same text as a cipher."""
    from lorameta.distance import distances
    from lorameta.mixing.compare import summarise
    from lorameta.mixing.novelty import LEVEL as OUTSIDE
    from lorameta.mixing.novelty import unusual

    cipher = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")
    found: dict[str, Any] = {"level": OUTSIDE}
    for size in (20, 100, None):
        values: dict[str, list[float]] = {"members_left_out": [], "ciphered_text": []}
        for task in tasks:
            rest = bank.without(task)
            rows = list(read_parts(data, task).train[:size])
            ciphered = [Example(r.input.translate(cipher), tuple(o.translate(cipher) for o in r.outputs)) for r in rows]
            for kind, some in zip(values, (rows, ciphered), strict=True):
                target = summarise(some, rest, distance)
                near = distances(target, rest.summaries, distance)
                result = unusual(target, rest.summaries, near, distance)
                values[kind].append(result.p_value if result else 1.0)
        for kind, some in values.items():
            label = "all rows" if size is None else f"{size} rows"
            p = np.array(some)
            found.setdefault(kind, {})[label] = {
                "datasets": len(p),
                "called_outside": round(float((p <= OUTSIDE).mean()), 4),
                "p_value_median": round(float(np.median(p)), 4),
            }
    return found
