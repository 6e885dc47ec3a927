"""Write the numbers of the README, each from a file in `benchmarks/results/`; a test compares the two.

python benchmarks/fill_readme.py
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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


def study_row(name: str, line: dict[str, Any]) -> list[str]:
    low, high = line["exact_match_interval"]
    numbers = [
        f"{line['exact_match']:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{line['rouge_l']:.3f}",
        f"{line['loss']:.2f}",
    ]
    return [name, *numbers, f"{line['gap_closed_exact_match']:.0%}"]


def section() -> str:
    study, base, desk, latency = (load(name) for name in ("leave_one_out", "base", "helpdesk", "latency"))
    own, bank = base["own_tasks"], base["bank_tasks"]
    skills = ", ".join(f"{value:.2f} ({skill})" for skill, value in base["skills_exact_match"].items())
    lines = [
        *paragraph(
            "All on the embedded bank; each file in `benchmarks/results/` names its machine, commit and command."
        ),
        *paragraph(
            f"**Leave-one-out** over the {study['tasks']} tasks of the bank: each task's own adapter is taken away,",
            "and one is generated from the others. Mean over tasks, on at most",
            f"{study['rows_a_task_at_most']} test rows each, with the 95 % bootstrap interval over tasks; the last",
            "column is the share of the way from base to own adapter. Temperatures were compared on validation rows",
            "(`leave_one_out_validation.md`); tables by family are in `leave_one_out.md`.",
        ),
        *table(
            ["method", "exact match", "interval", "ROUGE-L", "loss", "gap closed"],
            (study_row(name, line) for name, line in study["overall"].items()),
        ),
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
        *paragraph(
            "Not measured yet: leave-source-out, a few-shot prompt of the base, gradient-free search, fine-tuning for",
            "the same seconds, and anything on Mistral-7B.",
        ),
    ]
    return "\n".join(lines[:-1]) + "\n"


def filled(readme: str) -> str:
    return SECTION.sub(lambda found: found[1] + section() + found[2], readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
