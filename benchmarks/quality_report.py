"""Tables, intervals, ablations and pictures of the study, from the scores that `quality.py` collected."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from common import RESULTS, stamp, write
from methods import MAIN, Method, Tables

from lorameta.bank import AdapterBank
from lorameta.mixing.forecast import LEVEL, SETTINGS, Record, interval

METRICS = ("exact_match", "rouge_l", "loss")
#: What every method is compared with in pairs: the operator and distance that the paper found best, with its combiner.
REFERENCE = "normalized js (factor)"
DRAWS = 5_000


class Boot:
    """Bootstrap over tasks: the same draws for every method, so that differences are of the same tasks."""

    def __init__(self, tasks: int, seed: int = 0) -> None:
        self.draws = np.random.default_rng(seed).integers(0, tasks, (DRAWS, tasks))

    def mean(self, values: np.ndarray) -> np.ndarray:
        return values[self.draws].mean(axis=1)

    @staticmethod
    def interval(values: np.ndarray) -> list[float]:
        return [round(float(q), 4) for q in np.quantile(values, (0.025, 0.975))]


def columns(scores: dict[str, dict[str, dict]], name: str, metric: str) -> np.ndarray:
    return np.array([found[name][metric] for found in scores.values()])


def comparison(scores: dict[str, dict[str, dict]], methods: list[Method], boot: Boot) -> dict[str, dict]:
    """One line a method: means over tasks, the share of the gap closed, the difference from the paper's best."""
    ends = {m: (columns(scores, "base", m), columns(scores, "fine-tuned", m)) for m in METRICS}
    table: dict[str, dict] = {}
    for method in methods:
        line: dict[str, Any] = {}
        for metric in METRICS:
            values = columns(scores, method.name, metric)
            base, tuned = ends[metric]
            line[metric] = round(float(values.mean()), 4)
            line[f"{metric}_interval"] = boot.interval(boot.mean(values))
            gap = (values.mean() - base.mean()) / (tuned.mean() - base.mean())
            gaps = (boot.mean(values) - boot.mean(base)) / (boot.mean(tuned) - boot.mean(base))
            line[f"{metric}_gap_closed"] = round(float(gap), 4) + 0.0  # no -0.0
            line[f"{metric}_gap_closed_interval"] = boot.interval(gaps)
            difference = values - columns(scores, REFERENCE, metric)
            line[f"{metric}_over_paper"] = round(float(difference.mean()), 4)
            line[f"{metric}_over_paper_interval"] = boot.interval(boot.mean(difference))
        numbers = [found[method.name].get("effective_number") for found in scores.values()]
        if None not in numbers:
            line["effective_number_median"] = round(float(np.median(numbers)), 2)
        table[method.name] = {"group": method.group, **line}
    return table


def selection(scores: dict[str, dict[str, dict]], names: list[str], metric: str, splits: int = 500) -> dict[str, Any]:
    """What the best of many methods is worth on tasks that did not choose it: chosen on half, scored on the rest."""
    values = np.stack([columns(scores, name, metric) for name in names])
    sign = -1.0 if metric == "loss" else 1.0
    generator, tasks = np.random.default_rng(1), values.shape[1]
    held_out, chosen = [], []
    for _ in range(splits):
        order = generator.permutation(tasks)
        best = int(np.argmax(sign * values[:, order[: tasks // 2]].mean(axis=1)))
        chosen.append(names[best])
        held_out.append(values[best, order[tasks // 2 :]].mean() - values[:, order[tasks // 2 :]].mean())
    counts = {name: round(chosen.count(name) / splits, 3) for name in sorted(set(chosen), key=chosen.count)[::-1][:5]}
    best = int(np.argmax(sign * values.mean(axis=1)))
    return {
        "candidates": len(names),
        "best_on_all_tasks": names[best],
        "best_on_all_tasks_value": round(float(values[best].mean()), 4),
        "chosen_on_half": counts,
        "advantage_over_the_mean_candidate_on_the_other_half": round(float(np.mean(held_out)), 4),
    }


def rank_agreement(tables: Tables, transfer: np.ndarray, sign: float) -> dict[str, dict[str, float]]:
    """By distance: does nearer mean better? Spearman's rho between distance and the single adapter's score, by task."""
    from scipy.stats import spearmanr

    found = {}
    for name, matrix in tables.distances.items():
        rhos = []
        for i in range(len(tables.ids)):
            j = tables.allowed(i, "loo")
            rho = spearmanr(matrix[i, j], sign * transfer[i, j]).statistic
            rhos.append(0.0 if np.isnan(rho) else float(rho))
        boot = Boot(len(rhos))
        found[name] = {
            "rho_mean": round(float(np.mean(rhos)), 4),
            "interval": boot.interval(boot.mean(np.array(rhos))),
            "same_source_nearest": round(
                float(np.mean([tables.sources[int(np.argmin(np.where(np.arange(len(row)) == i, np.inf, row)))]
                               == tables.sources[i] for i, row in enumerate(matrix)])), 4,
            ),
        }  # fmt: skip
    return found


def single_adapters(collected: dict[str, Any]) -> dict[str, float]:
    """What one adapter of another task does to a task: the raw material of every mixture."""
    loss, exact, base = collected["test_loss"], collected["test_exact_match"], collected["base_loss"]
    base_exact = np.array([found["base"]["exact_match"] for found in collected["scores"]["loo"].values()])
    other = ~np.eye(len(loss), dtype=bool)
    gram = collected["tables"].gram
    norms = np.sqrt(np.diag(gram))
    cosine = (gram / np.outer(norms, norms))[other]
    return {
        "share_with_lower_loss_than_base": round(float((loss < base[:, None])[other].mean()), 4),
        "share_with_higher_exact_match_than_base": round(float((exact > base_exact[:, None])[other].mean()), 4),
        "tasks_with_some_adapter_of_higher_exact_match": round(
            float(np.where(other, exact > base_exact[:, None], False).any(axis=1).mean()), 4
        ),
        "update_norm_median": round(float(np.median(norms)), 3),
        "update_cosine_median": round(float(np.median(cosine)), 4),
        "update_cosine_90_percent": [round(float(q), 4) for q in np.quantile(cosine, (0.05, 0.95))],
        "uniform_mixture_norm_over_median": round(float(np.sqrt(gram.mean()) / np.median(norms)), 4),
    }


def unusualness(bank: AdapterBank, distance: str) -> np.ndarray:
    """Conformal p-value of every task for the bank without it."""
    from lorameta.distance import distances
    from lorameta.mixing.novelty import unusual

    found = []
    for task in bank.ids:
        rest = bank.without(task).summaries
        target = bank.summaries[task]
        result = unusual(target, rest, distances(target, rest, distance), distance)
        found.append(result.p_value if result else 1.0)
    return np.array(found)


def outside_check(bank: AdapterBank, data: Any, distance: str, p_values: np.ndarray) -> dict[str, Any]:
    """How often a dataset is called outside: members left out, tasks of other sources, and ciphered text."""
    from tasks import base_tasks, load_rows, split_rows

    from lorameta.data import load_examples
    from lorameta.distance import distances
    from lorameta.mixing.compare import summarise
    from lorameta.mixing.novelty import LEVEL as OUTSIDE
    from lorameta.mixing.novelty import unusual

    def judged(rows: list[dict]) -> float:
        target = summarise(load_examples(rows), bank, distance)
        result = unusual(target, bank.summaries, distances(target, bank.summaries, distance), distance)
        return result.p_value if result else 1.0

    cipher = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")
    found: dict[str, Any] = {"level": OUTSIDE, "members_left_out": {"all rows": summary_of(p_values)}}
    parts = {task["id"]: split_rows(load_rows(data, task["id"]))["train"] for task in base_tasks(data)}
    for size in (20, 100, None):
        rows = {name: part[:size] for name, part in parts.items()}
        ciphered = [[{k: v.translate(cipher) for k, v in row.items()} for row in part] for part in rows.values()]
        label = "all rows" if size is None else f"{size} rows"
        found.setdefault("tasks_of_other_sources", {})[label] = summary_of(np.array([judged(r) for r in rows.values()]))
        found.setdefault("ciphered_text", {})[label] = summary_of(np.array([judged(r) for r in ciphered]))
    return found


def summary_of(p_values: np.ndarray) -> dict[str, float]:
    from scipy.stats import kstest

    return {
        "datasets": len(p_values),
        "called_outside": round(float((p_values <= 0.05).mean()), 4),
        "p_value_median": round(float(np.median(p_values)), 4),
        "largest_gap_to_uniform": round(float(kstest(p_values, "uniform").statistic), 4),
    }


def forecasts(p_values: np.ndarray, gains: dict[str, np.ndarray], sources: tuple[str, ...]) -> dict[str, Any]:
    """Forecast every task from the record without its source, and count how often the interval holds what came."""
    found: dict[str, Any] = {"level": LEVEL}
    for metric, values in gains.items():
        made = []
        for i, source in enumerate(sources):
            others = np.array([s != source for s in sources])
            made.append(interval(p_values[i], p_values[others], values[others]))
        estimate, low, high = np.array(made).T
        inside = (low <= values) & (values <= high)
        found[metric] = {
            "covered": round(float(inside.mean()), 4),
            "width_mean": round(float((high - low).mean()), 4),
            "correlation": round(float(np.corrcoef(estimate, values)[0, 1]), 4),
            "error_mean_absolute": round(float(np.abs(estimate - values).mean()), 4),
            "error_mean_absolute_of_the_mean": round(float(np.abs(values - values.mean()).mean()), 4),
            "by_task": [[round(float(v), 4) for v in row] for row in np.column_stack([estimate, low, high, values])],
        }
    return found


def default_settings() -> dict[str, Any]:
    from lorameta import generate

    settings = {name: getattr(generate, name.upper()) for name in SETTINGS}
    return (
        settings | {"combiner": "factor"} if settings["combiner"] == "auto" else settings
    )  # what auto is on this bank


def default_name(methods: list[Method]) -> str:
    """The row of the study that `generate_adapter` follows by default."""
    settings = default_settings()
    return next(
        m.name for m in methods
        if m.kind in ("mix", "search") and m.scale == 1.0 and m.shuffle is None and m.candidates is None
        and all(getattr(m, name) == settings[name] for name in SETTINGS)
    )  # fmt: skip


def report(bank: AdapterBank, arguments: argparse.Namespace, methods: list[Method], collected: dict[str, Any]) -> None:
    tables: Tables = collected["tables"]
    boot = Boot(len(bank))
    settings = {
        name: comparison(found, [m for m in methods if name == "loo" or m.group in MAIN], boot)
        for name, found in collected["scores"].items()
    }
    mixes = [m.name for m in methods if m.kind == "mix" and m.group in ("grid", "baselines")]
    default = default_name(methods)
    costs = costs_of_rows()
    for table in settings.values():
        for name, line in table.items():
            line |= costs.get(name, {})
    p_values = unusualness(bank, default_settings()["distance"])
    scores = collected["scores"]["loo"]
    gains = {
        metric: (1 if metric != "loss" else -1) * (columns(scores, default, metric) - columns(scores, "base", metric))
        for metric in METRICS
    }
    with_mates = sum(tables.sources.count(source) > 1 for source in tables.sources)
    result = stamp(vars(arguments)) | {
        "bank": {"name": bank.name, "adapters": len(bank), "content": bank.content_hash},
        "tasks": len(bank),
        "tasks_with_others_of_their_source": with_mates,
        "rows_a_task_at_most": arguments.limit,
        "default": default,
        "reference": REFERENCE,
        "settings": settings,
        "selection": {s: {m: selection(collected["scores"][s], mixes, m) for m in METRICS} for s in settings},
        "single_adapters": single_adapters(collected),
        "nearer_is_better": {
            "loss": rank_agreement(tables, collected["test_loss"], 1.0),
            "exact_match": rank_agreement(tables, collected["test_exact_match"], -1.0),
        },
        "outside": outside_check(bank, arguments.data, default_settings()["distance"], p_values),
        "forecast": forecasts(p_values, gains, tables.sources),
        "fine_tuning": {
            "seconds_mean": round(float(np.mean([bank.records[i].training["train_seconds"] for i in bank.ids])), 1),
            "note": "one thread a task, two at once, in the making of the bank",
        },
        "by_task": {
            task: {
                "family": bank.records[task].family,
                "source": tables.sources[i],
                "p_value": round(float(p_values[i]), 4),
                **{name: {m: round(found[name][m], 4) for m in METRICS} for name in shown(default)},
            }
            for i, (task, found) in enumerate(scores.items())
        },
    }
    write("quality", result, markdown(result, methods))
    Record(bank.content_hash, default_settings(), bank.ids, p_values, gains).save(bank.path / "leave_one_out.json")
    pictures(result, collected, methods)


def costs_of_rows() -> dict[str, dict[str, Any]]:
    """Seconds and peak memory by row, from `quality_costs.py`; empty before it has run."""
    path = RESULTS / "quality_costs.json"
    costs = json.loads(path.read_text(encoding="utf-8"))["costs"] if path.exists() else {}
    return {name: {k: line[k] for k in ("seconds", "peak_memory_mb")} for name, line in costs.items()}


def shown(default: str) -> list[str]:
    names = ["base", "few-shot prompt", "random adapter", "uniform", "nearest js", REFERENCE, default, "normalized js",
             "trial js", "search js", "best single in hindsight", "fine-tuned"]  # fmt: skip
    return list(dict.fromkeys(names))


def markdown(result: dict[str, Any], methods: list[Method]) -> str:
    lines = [
        "# How much of the way to fine-tuning does mixing close?",
        "",
        f"{result['tasks']} tasks, at most {result['rows_a_task_at_most']} test rows each. Means over tasks; in "
        "brackets 95 % intervals of a bootstrap over tasks. Gap closed: 0 is the base, 1 is LoRA fine-tuning on the "
        "task's own rows with the recipe of the bank. Over the paper's: the mean difference from "
        f"`{result['reference']}`, the paper's best setting, on the same tasks. Seconds and memory: `lorameta "
        "generate` in a cold process on the help desk rows, and one training on one thread (`quality_costs.py`).",
        f"Made by `{result['command']}` at commit {result['commit'][:10]} on {result['machine']}.",
    ]
    titles = {
        "loo": "Leave one out: all adapters but the task's own",
        "source": "Leave the source out: no adapter trained on rows of the task's source",
    }
    for setting, title in titles.items():
        lines += ["", f"## {title}", ""]
        if setting == "source":
            lines += [f"{result['tasks_with_others_of_their_source']} of the tasks share their source with others.", ""]
        lines += [
            "| method | exact match | ROUGE-L | loss | gap closed (exact match) | gap closed (loss) | effective number "
            "| exact match over the paper's | seconds | MB |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        group = None
        for name, line in result["settings"][setting].items():
            if line["group"] != group:
                group = line["group"]
                lines.append(f"| **{group}** | | | | | | | | | |")
            gaps = [f"{line[f'{m}_gap_closed']:.1%} {bracket(line[f'{m}_gap_closed_interval'], '.0%')}"
                    for m in ("exact_match", "loss")]  # fmt: skip
            cells = [name + (" (default)" if name == result["default"] else ""),
                     f"{line['exact_match']:.3f} {bracket(line['exact_match_interval'])}", f"{line['rouge_l']:.3f}",
                     f"{line['loss']:.3f}", *gaps, str(line.get("effective_number_median", "")),
                     f"{line['exact_match_over_paper']:+.3f} "
                     f"{bracket(line['exact_match_over_paper_interval'], '+.3f')}",
                     *(str(line.get(k, "")) for k in ("seconds", "peak_memory_mb"))]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Is nearer better?",
        "",
        "Spearman's rho of the distance to a dataset with the loss (less exact match) of its adapter, mean over tasks.",
        "",
        "| distance | loss | exact match | nearest is of the same source |",
        "|---|---:|---:|---:|",
    ]
    for name, line in result["nearer_is_better"]["loss"].items():
        other = result["nearer_is_better"]["exact_match"][name]
        lines.append(
            f"| {name} | {line['rho_mean']:.3f} {bracket(line['interval'], '.2f')} | {other['rho_mean']:.3f} "
            f"{bracket(other['interval'], '.2f')} | {line['same_source_nearest']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def bracket(ends: list[float], form: str = ".3f") -> str:
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def pictures(result: dict[str, Any], collected: dict[str, Any], methods: list[Method]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from lorameta.figures.plots import calibration, forest, heatmap

    names = [m.name for m in methods if m.group in MAIN and m.name not in ("base", "fine-tuned")]
    fig, axes = plt.subplots(1, 2, figsize=(13, 0.2 * len(names) + 1.5), sharey=True, layout="constrained")
    for ax, (setting, title) in zip(axes, (("loo", "leave one out"), ("source", "leave the source out")), strict=True):
        table = result["settings"][setting]
        rows = [(n, 100 * table[n]["loss_gap_closed"], *(100 * e for e in table[n]["loss_gap_closed_interval"]))
                for n in names]  # fmt: skip
        forest(rows, reference=100 * table["uniform"]["loss_gap_closed"], reference_label="uniform", ax=ax,
               label="% of the gap in loss closed", title=title)  # fmt: skip
    fig.savefig(RESULTS / "quality.png", dpi=80)
    plt.close(fig)

    tables: Tables = collected["tables"]
    gain = collected["base_loss"][:, None] - collected["test_loss"]
    title = "single adapters (columns) on tasks (rows): how much lower the loss is than that of the base"
    ax = heatmap(np.clip(gain, -3, 3), list(tables.ids), groups=list(tables.sources), title=title, colour_label="nats")
    ax.figure.savefig(RESULTS / "quality_transfer.png", dpi=60, bbox_inches="tight")
    plt.close(ax.figure)

    made = np.array(result["forecast"]["loss"]["by_task"])
    ax = calibration(made[:, 0], made[:, 3], lower=made[:, 1], upper=made[:, 2], level=LEVEL, quantity="gain in loss")
    ax.figure.savefig(RESULTS / "quality_forecast.png", dpi=80, bbox_inches="tight")
    plt.close(ax.figure)
