"""`results/refine.json`, `.md` and `.png` from what the parts of `refine.py` measured."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from benchmarks.common import write
from benchmarks.refine.figure import figure
from benchmarks.refine.quality import FULL, RUNS, SHARE, TINY, TOP_SHARE, file_of, name_of, place
from benchmarks.refine.settings import SETTINGS
from benchmarks.refine.speed import BASES, VARIANTS, median

METRICS = ("loss", "exact_match")
SCRATCH = "from scratch"


def report(bank: str = TINY) -> None:
    result: dict[str, Any] = {}
    lines = ["# Refinement", ""]
    called = name_of(bank)
    curves = "quality" if (place(bank) / "quality.json").is_file() else "few"
    for name, (heading, part, said) in PARTS.items():
        path = place(bank) / f"{name}.json"
        if not path.is_file():
            continue
        found = json.loads(path.read_text())
        made = {key: found[key] for key in ("command", "commit", "machine")}
        result = made | result | {name: part(found) | {"made": made}}
        lines += [f"## {heading}", "", *said(result[name])]
        if name == curves:
            lines += [f"![curves]({called}.png)", ""]
        lines += [f"Made by `{made['command']}` at commit {made['commit'][:10]} on {made['machine']}.", ""]
    write(called, result, "\n".join(lines))
    if curves in result:
        figure(result[curves], called)
    print("\n".join(lines))


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|",
            *(f"| {' | '.join(row)} |" for row in rows), ""]  # fmt: skip


def reached(run: dict[str, Any], target: float, metric: str) -> float | None:
    """CPU seconds until a run is as good as `target`; None if it never is."""
    sign = 1 if metric == "loss" else -1
    return next((point["cpu"] for point in run["curve"] if sign * point[metric] <= sign * target), None)


def middle(values: Iterable[float | None]) -> float | None:
    """The median; runs that never got there count as infinitely slow."""
    ordered = sorted(float("inf") if value is None else value for value in values)
    found = statistics.median(ordered)
    return None if found == float("inf") else found


def quality_part(found: dict[str, Any]) -> dict[str, Any]:
    tasks = [json.loads(file_of(name, found["options"]).read_text()) for name in found["tasks"]]
    starts = {}
    for name in (run for run in RUNS if all(run in task["runs"] for task in tasks)):
        line: dict[str, Any] = {}
        sooner: dict[str, list[float | None]] = {"loss": [], "forced_exact_match": []}
        closed: dict[str, list[float]] = {metric: [] for metric in METRICS}
        cost = []
        for task in tasks:
            run, full = task["runs"][name], task["runs"][FULL]
            whole = full["curve"][-1]["cpu"]
            cost.append(run["curve"][-1]["cpu"] / whole)
            for metric, times in sooner.items():
                at = reached(run, full["curve"][-1][metric], metric)
                times.append(None if at is None else whole / at)
            for metric in METRICS:
                gap = full["scores"][metric] - task["base"][metric]
                if gap:
                    closed[metric].append((run["scores"][metric] - task["base"][metric]) / gap)
        for metric, times in sooner.items():
            there = [value for value in times if value is not None]
            line[f"{metric}_reached"] = len(there)
            slow = middle(None if value is None else 1 / value for value in times)
            line[f"{metric}_times_sooner"] = None if slow is None else round(1 / slow, 2)
        for metric in METRICS:
            line[metric] = round(statistics.fmean(task["runs"][name]["scores"][metric] for task in tasks), 4)
            line[f"{metric}_gap_closed"] = round(statistics.median(closed[metric]), 3) if closed[metric] else None
            line[f"{metric}_at_start"] = round(statistics.fmean(at_start(task, name, metric) for task in tasks), 4)
        line["share_of_cpu"] = round(statistics.median(cost), 3)
        line["head_start"] = round(statistics.median(head_start(task, name) for task in tasks), 4)
        line["start_cpu"] = round(statistics.median(task["runs"][name]["start_cpu"] for task in tasks), 2)
        starts[name] = line
    full = {metric: round(statistics.fmean(t["runs"][FULL]["scores"][metric] for t in tasks), 4) for metric in METRICS}
    full["cpu"] = round(statistics.median(task["runs"][FULL]["curve"][-1]["cpu"] for task in tasks), 1)
    full["steps"] = statistics.median(task["runs"][FULL]["steps"] for task in tasks)
    base = {metric: round(statistics.fmean(task["base"][metric] for task in tasks), 4) for metric in METRICS}
    result = {"options": {k: v for k, v in found["options"].items() if k != "data"}, "share": SHARE,
              "top_share": TOP_SHARE, "base": base,
              "full": full, "starts": starts, "tasks": {task["task"]: trimmed(task) for task in tasks}}  # fmt: skip

    return result


def quality_lines(found: dict[str, Any]) -> list[str]:
    """The table of the starts, and what its columns are; `found` is a part of refine.json."""
    base, full, starts, tasks = found["base"], found["full"], found["starts"], found["tasks"]

    def number(value: float | None, shape: str = ".2f") -> str:
        return "never" if value is None else format(value, shape)

    rows = [
        [
            name, number(s["share_of_cpu"], ".0%"), number(s["loss_at_start"]), number(s["head_start"], ".1%"),
            number(s["loss"]), number(s["exact_match"], ".3f"), number(s["loss_gap_closed"], ".0%"),
            number(s["exact_match_gap_closed"], ".0%"), f"{s['loss_reached']} of {len(tasks)}",
            number(s["loss_times_sooner"], ".1f"), f"{s['forced_exact_match_reached']} of {len(tasks)}",
            number(s["forced_exact_match_times_sooner"], ".1f"),
        ]
        for name, s in starts.items()
    ]  # fmt: skip
    head = [
        "start", "CPU", "loss before", "head start", "loss after", "exact match after", "gap (loss)", "gap (EM)",
        "reach the loss", "times sooner", "reach the EM", "times sooner",
    ]  # fmt: skip
    few = found["options"].get("train_rows")
    learnt = f"Of {few} rows to learn from, {found['options']['epochs']} times, the" if few else "The"
    top = f" ({found['top_share']:.0%} where only the upper half of the layers is adapted)" if not few else ""
    return [
        f"{len(tasks)} tasks, each left out of the bank in turn. {learnt} full fine-tune from scratch makes "
        f"{full['steps']:.0f} steps in {full['cpu']:.0f} CPU seconds (median) and goes from loss {base['loss']:.2f} "
        f"and exact match {base['exact_match']:.3f} to {full['loss']:.2f} and {full['exact_match']:.3f} (means). "
        f"A start gets {found['share']:.0%} of its steps, with a schedule for them{top}; some get all.",
        "",
        "CPU: share of the full fine-tune's CPU seconds, with what generating the start took. Head start: share of "
        "them in which training from scratch gets to the loss that the start has before its first step. Gap: share of "
        "the way from base to full fine-tune. These are medians over tasks, losses and exact matches are means. Reach: "
        "tasks on which the run is as good as the end of the full fine-tune; times sooner: how many times sooner, "
        "median over all tasks, never if less than half of them get there.",
        "",
        *table(head, rows),
    ]


def head_start(task: dict[str, Any], name: str) -> float:
    """Share of the full fine-tune's CPU seconds in which training from scratch gets to the loss that a start has."""
    wanted = task["runs"][name]["curve"][0]["loss"]
    whole = task["runs"][FULL]["curve"][-1]["cpu"]
    curve = task["runs"][SCRATCH]["curve"]
    begun = curve[0]["cpu"]
    for before, after in pairwise(curve):
        if after["loss"] <= wanted < before["loss"]:
            part = (before["loss"] - wanted) / (before["loss"] - after["loss"])
            return (before["cpu"] + part * (after["cpu"] - before["cpu"]) - begun) / whole
    return 0.0 if wanted >= curve[0]["loss"] else (curve[-1]["cpu"] - begun) / whole


def at_start(task: dict[str, Any], name: str, metric: str) -> float:
    return task["runs"][name]["curve"][0]["loss" if metric == "loss" else "forced_exact_match"]


def trimmed(task: dict[str, Any]) -> dict[str, Any]:
    return {"family": task["family"], "base": task["base"], "runs": task["runs"]}


def settings_part(found: dict[str, Any]) -> dict[str, Any]:
    tasks = found["tasks"]
    lines = {}
    seeds = range(len(next(iter(tasks.values()))))
    first = next(iter(SETTINGS))

    def loss(name: str, seed: int) -> float:
        return statistics.fmean(math.log(runs[seed][name]["loss"]) for runs in tasks.values())

    for name in SETTINGS:
        runs = [run[name] for task in tasks.values() for run in task]
        ratios = [math.exp(loss(name, seed) - loss(first, seed)) for seed in seeds]
        lines[name] = {
            "loss": round(math.exp(statistics.fmean(loss(name, seed) for seed in seeds)), 4),
            "loss_ratio": round(math.exp(statistics.fmean(map(math.log, ratios))), 3),
            "loss_ratio_by_seed": [round(ratio, 3) for ratio in ratios],
            "exact_match": round(statistics.fmean(run["exact_match"] for run in runs), 4),
            "cpu": round(statistics.fmean(run["cpu"] for run in runs), 1),
        }
    return {"settings": lines, "tasks": tasks, "options": {k: v for k, v in found["options"].items() if k != "data"}}


def settings_lines(found: dict[str, Any]) -> list[str]:
    """The table of the settings; `found` is a part of refine.json."""
    rows = [
        [
            name, f"{s['loss']:.3f}", f"{s['loss_ratio']:.2f}",
            " ".join(f"{ratio:.2f}" for ratio in s["loss_ratio_by_seed"]), f"{s['exact_match']:.3f}", f"{s['cpu']:.0f}",
        ]
        for name, s in found["settings"].items()
    ]  # fmt: skip
    seeds = len(next(iter(found["tasks"].values())))
    return [
        f"{len(found['tasks'])} other tasks ({', '.join(found['tasks'])}), {found['options']['epochs']} epochs from "
        f"scratch on the embedded base, whose default rate is 0.0025 and which has 6 layers; scores on at most "
        f"{found['options']['rows']} test rows a task, {seeds} seeds. Loss: geometric mean over tasks and seeds; the "
        "ratio to the first line over all seeds and by seed tells how much of it is chance.",
        "",
        *table(["", "loss", "ratio", "by seed", "exact match", "CPU seconds"], rows),
    ]


def speed_part(found: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"threads": found["threads"], "settings": found["settings"], "bases": {}}
    for base in (name for name in BASES if name in found["bases"]):
        lines = {}
        for name in VARIANTS:
            runs = found["bases"][base].get(name, [])
            keys = ("tokens_per_second", "tokens_per_cpu_second", "peak_memory_mb", "memory_of_steps_mb")
            lines[name] = {key: median(runs, key) for key in keys} | {"runs": len(runs)}
            speeds = [run["tokens_per_second"] for run in runs if "failed" not in run]
            lines[name]["spread"] = round(max(speeds) / min(speeds), 3) if speeds else 1.0
            if failed := next((run["failed"] for run in runs if "failed" in run), None):
                lines[name]["failed"] = failed
        plain = lines[VARIANTS[0]]
        for line in lines.values():
            if line["tokens_per_second"] is not None:
                for key in ("tokens_per_second", "tokens_per_cpu_second"):
                    line[f"{key}_over_trainer"] = round(line[key] / plain[key], 3)
        result["bases"][base] = lines
    return result


def speed_lines(found: dict[str, Any]) -> list[str]:
    """A table for each base; `found` is a part of refine.json."""
    text = []
    for base, lines in found["bases"].items():
        rows = []
        for name, line in lines.items():
            if line["tokens_per_second"] is None:
                rows += [[name, "failed", "", "", "", ""]] if line["runs"] else []
                continue
            rows.append([
                name, f"{line['tokens_per_second']:,.0f}", f"{line['tokens_per_second_over_trainer']:.2f}",
                f"{line['tokens_per_cpu_second']:,.0f}", f"{line['tokens_per_cpu_second_over_trainer']:.2f}",
                f"{line['peak_memory_mb']:,.0f}",
            ])  # fmt: skip
        settings, spread = found["settings"][base], max(line["spread"] for line in lines.values())
        text += [
            f"**{base}**, {settings['batch']} rows a step, LoRA of rank {settings['rank']} on all linear layers, "
            f"float32 unless said, {found['threads']} thread; medians of {lines['ours']['runs']} runs in turns "
            f"(compiled: one). The quickest run of a line was up to {spread:.2f} times as fast as its slowest.",
            "",
            *table(["", "tokens/s", "× Trainer", "tokens/CPU s", "× Trainer", "peak MB"], rows),
        ]
    return text


def bases_lines(found: dict[str, Any]) -> list[str]:
    """The forecasts as a table; `found` is a part of refine.json."""
    rows = []
    for name, base in found["bases"].items():
        seconds = base["seconds_a_step"]
        hours = seconds * 1000 * 128 / found["tokens"] / 3600
        rows.append([name, f"{base['parameters'] / 1e9:.1f} billion", f"{base['memory_gb']:.1f} GB", f"{seconds:.0f} s",
                     f"{hours:.1f} h"])  # fmt: skip
    return [
        f"Forecasts of `lorameta doctor` for LoRA of rank 8 on all linear layers in bfloat16, {found['threads']} "
        f"thread{'s' * (found['threads'] > 1)}, from the shape of each base and its layers measured one at a time:",
        "",
        *table(
            ["", "parameters", "memory", f"a step of {found['tokens']} tokens", "1,000 rows of 128 tokens, once"], rows
        ),
    ]


def as_measured(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("command", "commit", "machine")}


def step7b_lines(found: dict[str, Any]) -> list[str]:
    """The step in words; `found` is a part of refine.json."""
    said = found["forecast"]
    time = "no time" if said["seconds"] is None else f"{said['seconds']:.1f} s"
    return [
        f"{found['parameters']:,} random parameters in bfloat16, LoRA of rank {found['rank']} on "
        f"{', '.join(found['targets'])}, one row of {found['tokens']} tokens, {found['answers']} of them answers, "
        f"{found['threads']} thread{'s' * (found['threads'] > 1)}: {found['seconds']['second']:.1f} s (the first step "
        f"{found['seconds']['first']:.1f} s), {found['peak_memory_gb']:.1f} GB at most. `lorameta doctor` had forecast "
        f"{time} and {said['memory_gb']:.1f} GB.",
        "",
    ]


#: Part -> heading, function of what was measured, function of that to lines of Markdown.
PARTS = {
    "settings": ("Rows a step, rate, layers", settings_part, settings_lines),
    "quality": ("Quality against CPU seconds", quality_part, quality_lines),
    "few": ("Quality against CPU seconds with few rows", quality_part, quality_lines),
    "speed": ("Speed against the plain Trainer", speed_part, speed_lines),
    "bases": ("Forecasts for bases of well-known shapes", as_measured, bases_lines),
    "step7b": ("One step of a base of Mistral-7B's shape", as_measured, step7b_lines),
}
