"""Write the numbers of the README, each from a file in `benchmarks/results/`; a test compares the two.

python -m benchmarks.fill_readme.py
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.scale import report as scale_report

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SECTION = re.compile(r"(<!-- results -->\n).*(<!-- /results -->)", re.DOTALL)


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def paragraph(*sentences: str) -> list[str]:
    return [*textwrap.wrap(" ".join(sentences), 120, break_long_words=False, break_on_hyphens=False), ""]


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    rule = "|---" + "|---:" * (len(head) - 1) + "|"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows), ""]


#: Rows of the study that the README shows beside the default; all of them are in quality.md.
SHOWN = (
    "base",
    "few-shot prompt",
    "random adapter",
    "nearest js",
    "uniform",
    "attentional js (factor)",
    "normalized js (factor)",
    "neural js (factor)",
    "normalized js",
    "normalized cosine",
    "sparse",
    "trial js",
    "search js",
    "best single in hindsight",
    "fine-tuned",
)


def study_rows(study: dict[str, Any], setting: str) -> Iterable[list[str]]:
    table = study["settings"][setting]
    for name in (n for n in table if n in {*SHOWN, study["default"]}):
        line = table[name]
        gaps = (f"{round(line[f'{metric}_gap_closed'], 2) + 0.0:.0%}" for metric in ("exact_match", "loss"))
        low, high = line["exact_match_interval"]
        yield [
            f"**{name}** (default)" if name == study["default"] else name,
            f"{line['exact_match']:.3f} ({low:.3f} to {high:.3f})",
            f"{line['rouge_l']:.3f}",
            f"{line['loss']:.2f}",
            *gaps,
            f"{line['seconds']:.1f}" if "seconds" in line else "",
            f"{line['peak_memory_mb']:.0f}" if "peak_memory_mb" in line else "",
        ]


def study_lines() -> list[str]:
    study = load("quality")
    head = ["method", "exact match (95 %)", "ROUGE-L", "loss", "gap (EM)", "gap (loss)", "seconds", "MB"]
    single, outside, forecast = study["single_adapters"], study["outside"], study["forecast"]
    others, cipher = outside["tasks_of_other_sources"]["all rows"], outside["ciphered_text"]["all rows"]
    agreement = study["nearer_is_better"]["loss"]
    rho = ", ".join(f"{name} {agreement[name]['rho_mean']:.2f}" for name in agreement if "_" not in name)
    return [
        *paragraph(
            f"**The study** over the {study['tasks']} tasks of the bank: each task's own adapter is taken away, one is",
            f"made of the others and scored on at most {study['rows_a_task_at_most']} test rows. Means over tasks; gap",
            "is the share of the way from base to fine-tuning on the task's own rows. Seconds and memory are those of",
            "`lorameta generate` in a cold process, and of training for the last row. A setting that is followed by",
            "(factor) mixes as the paper's code does.",
        ),
        *table(head, study_rows(study, "loo")),
        *paragraph(
            "The same with every adapter of the task's *source* taken away:",
        ),
        *table(head[:-2], (row[:-2] for row in study_rows(study, "source"))),
        *paragraph(
            "All methods, intervals, paired differences and ablations (temperature, top-k, rank, norm, shuffled",
            "weights, other distances) are in [quality.md](benchmarks/results/quality.md), a picture is",
            "[quality.png](benchmarks/results/quality.png).",
            "Why the gain is small here: the updates of this bank are nearly orthogonal (median cosine",
            f"{single['update_cosine_median']:.3f}), so a mixture keeps little of each",
            f"({single['uniform_mixture_norm_over_median']:.0%} of the norm in the uniform average), and a single",
            f"adapter lowers the loss of another task in {single['share_with_lower_loss_than_base']:.0%} of the pairs.",
            f"Rank correlation of distance and loss over the bank's adapters: {rho}.",
        ),
        *paragraph(
            f"**Outside the bank** (level {outside['level']:g}): of tasks left out of the bank",
            f"{outside['members_left_out']['all rows']['called_outside']:.0%} are called outside it, of",
            f"{others['datasets']} tasks from sources that the bank lacks {others['called_outside']:.0%}, of the same",
            f"in cipher {cipher['called_outside']:.0%}. The interval of the forecast, promised to hold",
            f"{forecast['level']:.0%} of the time, held the gain in exact match of",
            f"{forecast['exact_match']['covered']:.0%} of the tasks and that in loss of",
            f"{forecast['loss']['covered']:.0%}, each forecast without its source. Its estimate correlates with what",
            f"came by {forecast['exact_match']['correlation']:.2f} and {forecast['loss']['correlation']:.2f}: on this",
            "bank it knows no more than the mean of the record.",
        ),
    ]


def distance_lines() -> list[str]:
    found = load("distances")
    rows = []
    for name, line in found["distances"].items():
        plain = line.get("plain")
        rows.append(
            [
                name,
                f"{line['first_call_ms']:.1f}",
                f"{line['later_calls_ms']:.1f}",
                f"{plain['seconds_scaled_to_the_bank']:.2f}" if plain else "",
                f"{plain['times_a_later_call']:.0f}" if plain else "",
            ]
        )
    return [
        *paragraph(
            f"**Distances**: one dataset against {found['datasets']}, {found['vocabulary']:,} tokens in the",
            "vocabulary; the plain way goes pair by pair through scipy on raw tokens, timed on some pairs and scaled.",
        ),
        *table(["distance", "first call, ms", "later calls, ms", "plain way, s", "ratio"], rows),
    ]


def scale_lines() -> list[str]:
    results = load("scale")["results"]
    main = results["BF16"]
    return [
        *paragraph(
            "**Banks of Mistral-7B's shape**: synthetic adapters of rank 16 on q, k and v of 32 layers, 9.44 million",
            "numbers each, in the system's cache. The average of the factors of all of them (`factor`), beside what it",
            "takes to read as many bytes and do nothing with them; peak memory is that over the imports.",
        ),
        *table(scale_report.DENSE_HEAD, scale_report.dense_rows(results)),
        *table(scale_report.MERGE_HEAD, scale_report.merge_rows(main)),
        *paragraph(
            *scale_report.sentences(main),
            "Cost against the number of adapters: [scale.md](benchmarks/results/scale.md).",
        ),
    ]


def refine_table(quality: dict[str, Any]) -> list[str]:
    full, tasks = quality["full"], len(quality["tasks"])
    rows = [
        [
            name, f"{s['share_of_cpu']:.0%}", f"{s['loss_at_start']:.2f}", f"{s['loss']:.2f}",
            f"{s['exact_match']:.3f}", f"{s['loss_gap_closed']:.0%}", f"{s['loss_reached']} of {tasks}",
        ]
        for name, s in quality["starts"].items()
    ]  # fmt: skip
    rows.append(["full fine-tune", "100%", f"{quality['base']['loss']:.2f}", f"{full['loss']:.2f}",
                 f"{full['exact_match']:.3f}", "100%", ""])  # fmt: skip
    return table(["start", "CPU", "loss before", "loss after", "exact match", "gap (loss)", "reach it"], rows)


def refine_lines() -> list[str]:
    found = load("refine")
    quality, few, speed, step = found["quality"], found["few"], found["speed"]["bases"], found["step7b"]
    starts, full, tasks = quality["starts"], quality["full"], len(quality["tasks"])
    ours = {base: lines["ours"]["tokens_per_second_over_trainer"] for base, lines in speed.items()}
    said = " and ".join(f"{ratio:.1f} times ({base})" for base, ratio in ours.items())
    return [
        *paragraph(
            f"**Refinement** (`benchmarks/refine.py`): {tasks} tasks, each left out of the bank in turn. Starts get a",
            f"share of the steps of a full fine-tune from scratch, which takes {full['cpu']:.0f} CPU seconds in the",
            "median. Losses and exact matches are means over test rows of the tasks, shares medians; the last column",
            "counts the tasks on which a run gets to the loss that the full fine-tune ends with.",
        ),
        *refine_table(quality),
        *paragraph(
            f"The same with {few['options']['train_rows']} rows to learn from, {few['options']['epochs']} times by the",
            f"full fine-tune ({few['full']['cpu']:.0f} CPU seconds):",
        ),
        *refine_table(few),
        *paragraph(
            "The head start of a generated adapter, which is what training from scratch needs to get to its loss, is",
            f"{starts['generated']['head_start']:.1%} of the full fine-tune's CPU seconds on all rows,",
            f"{few['starts']['generated']['head_start']:.1%} on few.",
            f"Training goes through {said} as many tokens a second as transformers' Trainer with the same rows.",
            f"A step of {step['tokens']} tokens of a base of Mistral-7B's shape takes",
            f"{step['seconds']['second']:.0f} s and {step['peak_memory_gb']:.1f} GB; `doctor` had said",
            f"{step['forecast']['seconds']:.0f} s and {step['forecast']['memory_gb']:.1f} GB.",
            "More, with curves: [refine.md](benchmarks/results/refine.md).",
        ),
    ]


def section() -> str:
    base, desk, latency = (load(name) for name in ("base", "helpdesk", "latency"))
    own, bank = base["own_tasks"], base["bank_tasks"]
    skills = ", ".join(f"{value:.2f} ({skill})" for skill, value in base["skills_exact_match"].items())
    lines = [
        *paragraph(
            "On the embedded bank, if nothing else is said; each file in `benchmarks/results/` names its machine,",
            "commit and command.",
        ),
        *study_lines(),
        *paragraph(
            f"**The help desk of the demo**, generated from {desk['rows']['train']} rows and scored on",
            f"{desk['rows']['test']} others:",
        ),
        *table(
            ["", "exact match", "ROUGE-L", "loss"],
            (
                [name, *(f"{s[m]:.3f}" for m in ("exact_match", "rouge_l", "loss"))]
                for name, s in desk["scores"].items()
            ),
        ),
        *distance_lines(),
        *refine_lines(),
        *scale_lines(),
        *paragraph(f"**Time** of a command in a cold process ({latency['machine']}):"),
        *table(
            ["command", "median s", "slowest s"],
            ([name, f"{s['median']:.2f}", f"{s['max']:.2f}"] for name, s in latency["seconds"].items()),
        ),
        *paragraph(
            f"**The base**: loss {base['pretraining']['text_held']:.2f} nats a token on held-out text. Exact match",
            f"on procedural prompts that it never saw: {skills}; on held-out rows of its own tasks",
            f"{own['exact_match']:.2f}; on the tasks of the bank, which it never saw, {bank['exact_match']:.2f}, where",
            f"{bank['answers_that_are_a_label']:.0%} of its answers to label questions are one of the labels.",
        ),
        *paragraph("Not measured: how well anything works on Mistral-7B, whose weights cannot be had here."),
    ]
    return "\n".join(lines[:-1]) + "\n"


def filled(readme: str) -> str:
    return SECTION.sub(lambda found: found[1] + section() + found[2], readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
