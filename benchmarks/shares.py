"""How much of a mixture without labels should be the adapter of all tasks: the option `share` of `multi_task`.

The rest is the mixture that `transfer` makes without the task. Losses and exact matches are those of teacher-forced
answers, on validation rows alone.

    python -m benchmarks.shares --data DATA --tasks 24
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import stamp, write
from benchmarks.quality.case import LOO, Case, opened, without_source
from benchmarks.quality.study import chosen_tasks
from lorameta.operator import multi_task_file
from lorameta.operator.mixture_loss import MixtureLoss

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tasks' rows, TASK.jsonl or tasks/")
    parser.add_argument("--bank", default="smollm2")
    parser.add_argument("--tasks", default="24", help="how many, or their names")
    arguments = parser.parse_args()
    bank, scorer = opened(arguments.bank, "bfloat16")
    tasks = chosen_tasks(bank, arguments.tasks)
    found: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        case = Case(bank, scorer, arguments.data, task, LOO, ROWS)
        with without_source(bank, task, arguments.data):
            shared = multi_task_file.load(case.bank)
        parts = [shared, case.generate(operator="transfer")]
        loss = MixtureLoss(scorer, parts, case.validation[:ROWS])
        measured = {share: loss.measure(np.array([share, 1 - share])) for share in SHARES}
        found[task] = {f"{share:g}": [round(m.loss, 4), round(m.exact_match, 4)] for share, m in measured.items()}
        print(task, found[task], flush=True)
    halves = {"first half": tasks[::2], "second half": tasks[1::2], "all": tasks}
    result: dict[str, Any] = stamp(vars(arguments)) | {"bank": bank.name, "tasks": len(tasks), "rows_at_most": ROWS}
    write("shares", result | {"means": {half: means(found, names) for half, names in halves.items()}, "by_task": found})


def means(found: dict[str, dict[str, list[float]]], names: list[str]) -> dict[str, dict[str, float]]:
    """Loss and exact match of each share, and the difference in loss to the mixture alone with its standard error."""
    lines = {}
    for share in found[names[0]]:
        loss, exact = np.array([found[name][share] for name in names]).T
        less = loss - np.array([found[name]["0"][0] for name in names])
        lines[share] = {
            "loss": round(float(loss.mean()), 4), "exact_match": round(float(exact.mean()), 4),
            "loss_difference": round(float(less.mean()), 4),
            "standard_error": round(float(less.std(ddof=1) / len(less) ** 0.5), 4),
        }  # fmt: skip
    return lines


if __name__ == "__main__":
    main()
