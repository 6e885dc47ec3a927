"""Write the tables of docs/results.md and of the READMEs from benchmarks/results; prose is written by hand.

python -m benchmarks.tables
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.choice_tables import (
    adapters_table,
    by_block_table,
    first_stage_table,
    kinds_table,
    labels_table,
    pairs_table,
    rates_table,
    recipe_table,
    settings_table,
    shares_table,
)
from benchmarks.common import RESULTS, ROOT, load, table
from benchmarks.refine.report import PARTS
from benchmarks.scale import report as scale_report

PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "adapter_bank" / "smollm2" / "README.md")
PLACE = re.compile(r"(<!-- table ([a-z0-9-]+) -->\n).*?(<!-- /table \2 -->)", re.DOTALL)
#: The study of the default bank, or that of the bank of 89 small adapters while there is no other.
STUDIES = ("quality_smollm2", "quality")
#: The study of fewer methods on more tasks.
MANY = "quality_smollm2_many"
#: Methods that look at 128 labelled rows, on more tasks.
MORE = "labelled_smollm2"
SAME = {
    "base": "base",
    "few-shot prompt, 5": "few-shot prompt, 5",
    "fit without bank, 128 rows": "fit without bank, 128 rows",
    "auto, 128 rows": "auto, 128 rows",
    "fine-tuned on 128 rows, seconds of auto": "fine-tuned on 128 rows, seconds of auto",
    "own adapter": "own adapter",
}
#: Which tokens of the prompts the distances count.
DEFINITIONS = {
    "normalized js": "normalized js, all tokens of the prompts",
    "normalized js without definitions": "normalized js, without the definition that a task's prompts begin with",
}
#: Prompts as they are and in the base's chat template.
TEMPLATES = {
    "base": "base",
    "base, chat template": "base, chat template",
    "few-shot prompt, 3": "few-shot prompt, 3",
    "few-shot prompt, 3, chat template": "few-shot prompt, 3, chat template",
    "own adapter": "own adapter",
    "own adapter, chat template": "own adapter, trained and asked in the chat template",
}
#: The runs that a bank's leave-one-out record was written from.
FORECASTS = ("forecast_smollm2", *STUDIES)
#: Methods in the README's table: their names in the study of the default bank, then in the older one.
SHORT = {
    "base": "base model",
    "few-shot prompt, 3": "few-shot prompt, 3 examples",
    "few-shot prompt": "few-shot prompt",
    "random bank": "random bank of the same norms",
    "uniform": "uniform average",
    "nearest js": "nearest adapter (js)",
    "normalized js": "normalized js, the paper's best",
    "normalized js (factor)": "normalized js, factors averaged as in the paper's code",
    "multi-task adapter": "one adapter of rank 16 for all tasks",
    "multi_task": "multi_task, the default without labels",
    "trial": "trial, 16 labelled rows",
    "trial js": "trial, 16 labelled rows",
    "fit without bank, 128 rows": "readout fit without the bank, 128 labelled rows",
    "auto, 16 rows": "auto, 16 labelled rows",
    "auto, 128 rows": "auto, 128 labelled rows",
    "auto, all rows": "auto, all labelled rows, some 720",
    "fine-tuned on 128 rows, seconds of auto": "LoRA by gradient descent, the rows and seconds of auto",
    "own adapter": "own adapter",
    "fine-tuned": "own adapter",
}

#: Groups of methods that docs/results.md shows, and single ones of the older study; the study's own file has them all.
GROUPS = ("ends", "prompts", "controls", "distances", "operators", "combiners")
SINGLE = ("random adapter", "uniform (factor)", "attentional js (factor)", "neural js (factor)", "normalized cosine",
          "best single in hindsight", "sparse", "search js")  # fmt: skip


def study_name() -> str:
    return next(name for name in STUDIES if (RESULTS / f"{name}.json").is_file())


def bracket(value: float, ends: list[float], form: str) -> str:
    return f"{value:{form}} ({ends[0]:{form}} to {ends[1]:{form}})"


def study_table(setting: str, names: dict[str, str] | None = None, name: str | None = None) -> list[str]:
    """One setting of the study; `names` maps the methods that are shown to what the table calls them."""
    study = load(name or study_name())
    lines = study["settings"].get(setting)
    if not lines:
        return ["Not measured."]
    bank = study["bank"]["name"].replace("embedded", "tiny")  # its name at the time
    head = [f"bank {bank}, {study['tasks']} tasks", "exact match (95 %)", "ROUGE-L", "loss"]
    head += ["gap closed, exact match", "gap closed, loss"]
    costs = [] if names else [("labelled", "labelled rows", ".0f"), ("forward_tokens", "tokens", ",.0f"),
                              ("cpu_seconds", "CPU seconds", ".1f")]  # fmt: skip
    costs = [cost for cost in costs if all(cost[0] in line for line in lines.values())]
    rows = []
    chosen = names or [n for n in lines if lines[n]["group"] in GROUPS or n in (*SHORT, *SINGLE)]
    shown = {name: line for name, line in lines.items() if name in chosen}
    order = [name for name in names if name in shown] if names else list(shown)
    for method in order:
        line = shown[method]
        gap = line["exact_match_gap_closed"] or 0.0
        cells = [names[method] if names else method, bracket(line["exact_match"], line["exact_match_interval"], ".3f")]
        cells += [f"{line['rouge_l']:.3f}", f"{line['loss']:.2f}"]
        cells += [bracket(round(gap, 2) + 0.0, line["exact_match_gap_closed_interval"], ".0%")]
        cells += [f"{round(line['loss_gap_closed'] or 0.0, 2) + 0.0:.0%}"]
        rows.append(cells + [f"{line[key]:{form}}" for key, _, form in costs])
    return table(head + [title for _, title, _ in costs], rows)


def study_figure(kind: str = "", said: str = "Share of the gap to fine-tuning that each method closes") -> list[str]:
    name = f"{study_name()}{kind}.png"
    return ["", f"![{said}](benchmarks/results/{name})"] if (RESULTS / name).is_file() else []


def updates_table() -> list[str]:
    study = load(study_name())
    found = study.get("updates") or study["single_adapters"]
    names = {
        "update_norm_median": "median norm of an adapter's update",
        "update_cosine_median": "median cosine of two updates",
        "uniform_mixture_norm_over_median": "norm of the uniform average over the median norm",
    }
    return table(["updates of the bank", "value"], ([said, f"{found[key]:.3f}"] for key, said in names.items()))


def outside_table() -> list[str]:
    outside = load(study_name())["outside"]
    names = {
        "members_left_out": "tasks left out of the bank",
        "tasks_of_other_sources": "tasks of sources that the bank lacks",
        "ciphered_text": "the same text as a cipher",
    }
    rows = [
        [said, size, str(line["datasets"]), f"{line['called_outside']:.0%}"]
        for kind, said in names.items()
        for size, line in outside.get(kind, {}).items()
    ]
    return table([f"datasets (level {outside['level']:g})", "size", "number", "called outside"], rows)


def forecast_table() -> list[str]:
    study = load(next(name for name in FORECASTS if (RESULTS / f"{name}.json").is_file()))
    found = study.get("forecast")
    if not found:
        return ["Not measured."]
    rows = [
        [f"gain in {metric.replace('_', ' ')}", f"{found['level']:.0%}", f"{found[metric]['covered']:.0%}",
         "-" if found[metric]["correlation"] is None else f"{found[metric]['correlation']:.2f}"]
        for metric in ("exact_match", "rouge_l", "loss")
    ]  # fmt: skip
    return table(
        [f"{study['tasks']} tasks, forecast of the", "promised coverage", "coverage", "correlation with the outcome"],
        rows,
    )


def helpdesk_table() -> list[str]:
    desk = load("helpdesk")
    head = [f"help desk: {desk['rows']['train']} rows, scored on {desk['rows']['test']}", "exact match", "ROUGE-L"]
    rows = (
        [n, *(f"{s[m]:.3f}" for m in ("exact_match", "rouge_l", "loss")), f"{s['cpu_seconds']:.0f}"]
        for n, s in desk["scores"].items()
    )
    return table([*head, "loss", "CPU seconds"], rows)


def distances_table() -> list[str]:
    found = load("distances")
    rows = []
    for name, line in found["distances"].items():
        plain = line.get("plain")
        rows.append([name, f"{line['first_call_ms']:.1f}", f"{line['later_calls_ms']:.1f}",
                     f"{plain['seconds_scaled_to_the_bank']:.2f}" if plain else "",
                     f"{plain['times_a_later_call']:.0f}" if plain else ""])  # fmt: skip
    head = [f"one dataset against {found['datasets']}", "first call, ms", "later calls, ms", "pair by pair, s", "ratio"]
    return table(head, rows)


def latency_table() -> list[str]:
    found = load("latency")["seconds"]
    columns = (("median", ".2f"), ("max", ".2f"), ("cpu", ".2f"), ("peak_mb", ".0f"))
    rows = (
        [f"`{name}`", *(f"{s[key]:{form}}" if key in s else "" for key, form in columns)] for name, s in found.items()
    )
    return table(["command, cold process", "median s", "slowest s", "CPU s", "peak MB"], rows)


def runtimes_table() -> list[str]:
    """Equal answers and the largest difference of a logit, an adapter a column."""
    if not (RESULTS / "runtimes.json").is_file():
        return ["Not measured."]
    found = load("runtimes")["adapters"]
    first = next(iter(found.values()))
    rows = []
    for name in first:
        lines = [lines.get(name) for lines in found.values()]
        rows.append([name, *(_same(line) for line in lines)])
    return table(["against PEFT in float32: equal answers (logits)", *found], rows)


def _same(line: dict[str, Any] | None) -> str:
    return "" if line is None else f"{line['equal']}/{line['prompts']} ({line['largest_logit_difference']:.2g})"


def refine_table(part: str, name: str = "refine") -> list[str]:
    """The tables of a part of the refinement benchmark, with their headings; its captions are in refine.md."""
    if not (RESULTS / f"{name}.json").is_file():
        return ["Not measured."]
    lines = [line for text in PARTS[part][2](load(name)[part]) for line in text.splitlines()]
    kept = [re.sub(r"\*\*(.+?)\*\*.*", r"**\1**", line) for line in lines if line.startswith(("|", "**"))]
    return [part for line in kept for part in (["", line, ""] if line.startswith("**") else [line])]


def step_table() -> list[str]:
    step = load("refine")["step7b"]
    forecast, measured = step["forecast"], step["seconds"]["second"]
    rows = [
        ["forecast by `doctor`", f"{forecast['seconds']:.0f}", f"{forecast['memory_gb']:.1f}"],
        ["measured", f"{measured:.0f}", f"{step['peak_memory_gb']:.1f}"],
    ]
    return table([f"a step of {step['tokens']} tokens, {step['parameters'] / 1e9:.1f} billion", "s", "GB"], rows)


def fit_table() -> list[str]:
    found = load("fit")
    rows = ([name, f"{line['exact_match']:.3f}", f"{line['loss']:.2f}"] for name, line in found["mean"].items())
    return table(
        [f"readout on the base, {len(found['tasks'])} tasks, {found['rows']} rows", "exact match", "loss"], rows
    )


def transfer_table() -> list[str]:
    found = load("transfer")
    rows = []
    for name, line in found["mixtures"].items():
        difference = f"{line['loss_difference']:+.2f} ± {line['standard_error']:.2f}"
        rows.append([name, f"{line['loss']:.2f}", difference, f"{line['exact_match']:.3f}"])
    head = [f"weights without labels, {found['tasks']} tasks", "loss", "against normalized js, T = 1", "exact match"]
    return table(head, rows)


TABLES: dict[str, Callable[[], list[str]]] = {
    "study-short": lambda: study_table("loo", SHORT) + study_figure(),
    "study-loo": lambda: (
        study_table("loo") + study_figure("_costs", "Exact match against the CPU seconds that making the adapter took")
    ),
    "study-source": lambda: study_table("source"),
    "study-many": lambda: [*study_table("loo", name=MANY), "", *pairs_table(load(MANY))],
    "study-same": lambda: [*study_table("loo", SAME, MORE), "", *pairs_table(load(MORE))],
    "templates": lambda: study_table("loo", TEMPLATES, "templates_smollm2"),
    "definitions": lambda: study_table("loo", DEFINITIONS, "definitions_smollm2"),
    "study-pairs": lambda: pairs_table(load(study_name())),
    "labels": labels_table,
    "settings": settings_table,
    "by-block": by_block_table,
    "recipe": recipe_table,
    "rates": rates_table,
    "adapters": adapters_table,
    "fit": fit_table,
    "transfer": transfer_table,
    "shares": shares_table,
    "first-stage": first_stage_table,
    "kinds": kinds_table,
    "updates": updates_table,
    "outside": outside_table,
    "forecast": forecast_table,
    "helpdesk": helpdesk_table,
    "distances": distances_table,
    "refine-quality": lambda: refine_table("quality"),
    "refine-smollm2": lambda: refine_table("few", "refine_smollm2"),
    "refine-few": lambda: refine_table("few"),
    "refine-settings": lambda: refine_table("settings"),
    "refine-speed": lambda: refine_table("speed"),
    "refine-bases": lambda: refine_table("bases"),
    "refine-step": step_table,
    "scale-average": lambda: table(scale_report.DENSE_HEAD, scale_report.dense_rows(load("scale")["results"])),
    "scale-merge": lambda: table(scale_report.MERGE_HEAD, scale_report.merge_rows(load("scale")["results"]["BF16"])),
    "scale-count": lambda: table(scale_report.COUNT_HEAD, scale_report.count_rows(load("scale")["results"]["BF16"])),
    "latency": latency_table,
    "runtimes": runtimes_table,
}


def filled(text: str, folder: Path = ROOT) -> str:
    """A page with its tables; links to results lead there from `folder`."""
    there = os.path.relpath(RESULTS, folder).replace(os.sep, "/")

    def fill(found: re.Match[str]) -> str:
        lines = "\n".join(TABLES[found[2]]()).replace("](benchmarks/results/", f"]({there}/")
        return f"{found[1]}{lines}\n{found[3]}"

    return PLACE.sub(fill, text)


def main() -> None:
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), page.parent), encoding="utf-8")


if __name__ == "__main__":
    main()
