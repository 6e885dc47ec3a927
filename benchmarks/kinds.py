"""Where `auto` and gradient descent differ: on tasks whose answers are a few labels, and on tasks of open answers.

Reads the scores of `benchmarks/results/labelled_smollm2.json`; a task is one of labels if 128 of its rows have at most
`LABELS` distinct answers.

    python -m benchmarks.kinds --data DATA
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import load, stamp, write
from benchmarks.rows import read_parts

ROWS, LABELS, DRAWS = 128, 16, 10_000
AUTO, LORA = "auto, 128 rows", "fine-tuned on 128 rows, seconds of auto"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tasks' rows, TASK.jsonl or tasks/")
    arguments = parser.parse_args()
    scores = load("labelled_smollm2")["by_task"]
    kinds: dict[str, list[str]] = {"labels": [], "open": []}
    for task in scores:
        answers = {row.output for row in read_parts(arguments.data, task).train[:ROWS]}
        kinds["labels" if len(answers) <= LABELS else "open"].append(task)
    found = {kind: compared([scores[task] for task in tasks]) | {"tasks": tasks} for kind, tasks in kinds.items()}
    write("kinds", stamp(vars(arguments)) | {"rows": ROWS, "labels_at_most": LABELS, "kinds": found})


def compared(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of both, and of the difference with a 95 % interval of a bootstrap over tasks."""
    rng = np.random.default_rng(0)
    lines: dict[str, Any] = {}
    for metric in ("exact_match", "loss"):
        auto, lora = (np.array([line[name][metric] for line in scores]) for name in (AUTO, LORA))
        drawn = rng.integers(0, len(scores), (DRAWS, len(scores)))
        low, high = np.percentile((auto - lora)[drawn].mean(axis=1), (2.5, 97.5))
        values = (auto.mean(), lora.mean(), (auto - lora).mean(), low, high)
        lines[metric] = dict(zip(("auto", "lora", "difference", "low", "high"), map(_rounded, values), strict=True))
    return lines


def _rounded(value: float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
