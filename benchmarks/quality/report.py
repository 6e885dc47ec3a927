"""Tables and pictures of the study, and the bank's leave-one-out record, from the scores that were collected."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT, stamp, write
from benchmarks.quality.case import LOO, SOURCE, sources_of
from benchmarks.quality.methods import BASE, CONTROLS, OWN, PAPER
from benchmarks.quality.statistics import METRICS, comparison, forecasts, gains, outside_check, updates
from lorameta.bank import AdapterBank
from lorameta.bank.edit import update
from lorameta.bank.records import AdapterRecord
from lorameta.mixing.forecast import FILE, LEVEL, SETTINGS, Record

TITLES = {
    LOO: "Leave one out: all adapters except the task's own",
    SOURCE: "Leave the source out: no adapter that was trained on rows of the task's source",
}

#: Tasks of the check of novelty at most: it compares each with the whole bank six times.
CHECKED = 26


def report(bank: AdapterBank, arguments: argparse.Namespace, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Write ``results/quality_BANK.json``, ``.md`` and ``.png``, and into the bank what it is to hold of them."""
    names, sources = arguments.methods, sources_of(bank)
    scores = found.get(LOO) or next(iter(found.values()))
    tasks = list(scores)
    result = stamp(vars(arguments)) | {
        "bank": {
            "name": bank.name,
            "adapters": len(bank),
            "content": bank.content_hash,
            "base": bank.base_model.removeprefix(f"{ROOT}/"),
        },
        "tasks": len(tasks),
        "tasks_with_others_of_their_source": sum(
            sum(sources[other] == sources[task] for other in bank.ids) > 1 for task in tasks
        ),
        "rows_per_task_at_most": arguments.rows,
        "reference": PAPER,
        "settings": {
            setting: comparison(lines, [name for name in names if name in next(iter(lines.values()))])
            for setting, lines in found.items()
        },
        "tasks_by_setting": {setting: len(lines) for setting, lines in found.items()},
        "updates": updates(bank),
        "outside": outside_check(bank, arguments.data, tasks[:CHECKED], "js"),
        "by_task": {
            task: {
                "family": bank.records[task].family,
                "source": sources[task],
                **{name: {m: round(line[name][m], 4) for m in METRICS} for name in names},
            }
            for task, line in scores.items()
        },
    }
    seconds = [bank.records[task].training.get("train_seconds") for task in tasks]
    if None not in seconds:
        result["own_adapter_seconds_mean"] = round(float(np.mean(np.array(seconds, dtype=float))), 1)
    if arguments.record_scores:
        record_scores(bank, scores)
    forecast_of = arguments.record or (PAPER if PAPER in names else None)
    if forecast_of and len(tasks) > 3:
        p_values = np.array([line[forecast_of]["p_value"] for line in scores.values()], dtype=float)
        gain = gains(scores, forecast_of)
        result["forecast"] = {"method": forecast_of} | forecasts(p_values, gain, tuple(sources[t] for t in tasks))
        if arguments.record:
            used = [{name: line[forecast_of][name] for name in SETTINGS} for line in scores.values()]
            if any(one != used[0] for one in used):
                raise SystemExit(f"{forecast_of} did not take the same settings on every task; it cannot be recorded")
            Record(bank.content_hash, used[0], tuple(tasks), p_values, gain).save(bank.path / FILE)
    name = arguments.name or f"quality_{bank.name}"
    write(name, result, markdown(result))
    pictures(name, result)


def record_scores(bank: AdapterBank, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Write into ``bank.json`` what base and adapter scored on the test rows of each task."""

    def scored(record: AdapterRecord) -> AdapterRecord:
        line = found.get(record.id)
        if line is None:
            return record
        test = {
            name: {metric: round(line[method][metric], 5) for metric in METRICS} | {"rows": line[method]["rows"]}
            for name, method in (("base", BASE), ("adapter", OWN))
        }
        return replace(record, scores=record.scores | {"test": test})

    update(bank.path, lambda manifest: replace(manifest, adapters=tuple(scored(one) for one in manifest.adapters)))


def markdown(result: dict[str, Any]) -> str:
    lines = [
        f"# How much of the gap to fine-tuning does mixing close? The bank {result['bank']['name']}",
        "",
        f"{result['tasks']} of {result['bank']['adapters']} tasks, at most {result['rows_per_task_at_most']} test rows "
        "per task. Means over tasks; in brackets 95 % intervals of a bootstrap over tasks. Gap closed: 0 is the base "
        f"model, 1 is the task's own adapter. Over uniform, random bank and {result['reference']}: the mean difference "
        "in exact match on the same tasks. Labels, tokens (that went through the base model to make the adapter) and "
        "CPU seconds are means per task.",
        "",
        f"Made by `{result['command']}` at commit {result['commit'][:10]} on {result['machine']}.",
    ]
    for setting, table in result["settings"].items():
        controls = [control for control in CONTROLS if control in table]
        heads = ["method", "exact match", "ROUGE-L", "loss", "gap closed (exact match)", "gap closed (loss)"]
        heads += [f"over {control}" for control in controls] + ["labels", "tokens", "CPU seconds"]
        lines += ["", f"## {TITLES[setting]}", ""]
        if setting == SOURCE:
            lines += [f"{result['tasks_with_others_of_their_source']} of the tasks share their source with others.", ""]
        lines += [row_of(heads), row_of(["---", *["---:"] * (len(heads) - 1)])]
        for name, line in table.items():
            gaps = [f"{line[f'{m}_gap_closed'] or 0:.0%} {bracket(line[f'{m}_gap_closed_interval'], '.0%')}"
                    for m in ("exact_match", "loss")]  # fmt: skip
            over = [difference(line.get("over", {}).get(control)) for control in controls]
            cells = [name, f"{line['exact_match']:.3f} {bracket(line['exact_match_interval'])}",
                     f"{line['rouge_l']:.3f}", f"{line['loss']:.3f}", *gaps, *over, f"{line['labelled']:.0f}",
                     f"{line['forward_tokens']:,.0f}", f"{line['cpu_seconds']:.1f}"]  # fmt: skip
            lines.append(row_of(cells))
    return "\n".join(lines) + "\n"


def row_of(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def bracket(ends: list[float], form: str = ".3f") -> str:
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def difference(found: dict[str, list[float]] | None) -> str:
    if found is None:
        return ""
    mean, low, high = found["exact_match"]
    return f"{mean:+.3f} {bracket([low, high], '+.3f')}"


def pictures(name: str, result: dict[str, Any]) -> None:
    """Share of the gap that each method closes, and forecasts against what came."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from lorameta.figures.plots import calibration, forest

    tables = {setting: table for setting, table in result["settings"].items() if set(table) - {BASE, OWN}}
    if tables:
        height = 0.3 * max(map(len, tables.values())) + 1.5
        fig, axes = plt.subplots(1, len(tables), figsize=(1 + 8 * len(tables), height),
                                 layout="constrained", squeeze=False)  # fmt: skip
        for ax, (setting, table) in zip(axes[0], tables.items(), strict=True):
            lines = [(n, 100 * (table[n]["exact_match_gap_closed"] or 0),
                      *(100 * e for e in table[n]["exact_match_gap_closed_interval"]))
                     for n in table if n not in (BASE, OWN)]  # fmt: skip
            middle = {}
            if "uniform" in table:
                gap = table["uniform"]["exact_match_gap_closed"] or 0
                middle = {"reference": 100 * gap, "reference_label": "uniform"}
            title = TITLES[setting].partition(":")[0]
            forest(lines, **middle, ax=ax, label="% of the gap in exact match closed", title=title)
        fig.savefig(RESULTS / f"{name}.png", dpi=80)
        plt.close(fig)
    table = result["settings"].get(LOO)
    if table and OWN in table:
        costs(table).savefig(RESULTS / f"{name}_costs.png", dpi=80)
        plt.close("all")
    made = np.array(result.get("forecast", {}).get("loss", {}).get("by_task", []), dtype=float)
    if len(made) and np.isfinite(made).all():
        ax = calibration(
            made[:, 0], made[:, 3], lower=made[:, 1], upper=made[:, 2], level=LEVEL, quantity="gain in loss"
        )
        ax.figure.savefig(RESULTS / f"{name}_forecast.png", dpi=80, bbox_inches="tight")
        plt.close(ax.figure)


def costs(table: dict[str, dict[str, Any]]) -> Any:
    """Exact match against the CPU seconds that making the adapter took; the task's own adapter as a line."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    shown = sorted((e for e in table.items() if e[0] != OWN), key=lambda e: (e[1]["cpu_seconds"], e[1]["exact_match"]))
    for place, (method, line) in enumerate(shown):
        x, y, (low, high) = max(line["cpu_seconds"], 0.1), line["exact_match"], line["exact_match_interval"]
        color, left = f"C{place % 10}", x > 20
        ax.errorbar(x, y, yerr=[[max(y - low, 0)], [max(high - y, 0)]], fmt="o", capsize=3, color=color)
        # Names of neighbours stand above and below in turn, those of the dear ones to the left of their point.
        ax.annotate(method, (x, y), xytext=(-6 if left else 6, 4 if place % 2 else -10), textcoords="offset points",
                    fontsize=8, color=color, ha="right" if left else "left")  # fmt: skip
    ax.axhline(table[OWN]["exact_match"], color="grey", linestyle="--", linewidth=1)
    ax.annotate(OWN, (0.1, table[OWN]["exact_match"]), xytext=(0, 3), textcoords="offset points", fontsize=8)
    ax.set(xscale="log", xlabel="CPU seconds to make the adapter (0.1: none)", ylabel="exact match (95 % interval)")
    ax.margins(x=0.25)
    return fig
