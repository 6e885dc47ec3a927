"""Rows of the benchmarks' tasks, split by the rule of the package: :mod:`lorameta.data.split`."""

from __future__ import annotations

from pathlib import Path

from lorameta.data import load_examples
from lorameta.data.split import Parts, split_examples


def tasks_folder(data: Path) -> Path:
    """The folder with one JSONL file per task: `data` itself or ``data/tasks``."""
    return data / "tasks" if (data / "tasks").is_dir() else data


def read_parts(data: Path, task: str) -> Parts:
    """Train, validation and test rows of a task, as `lorameta bank train` splits them."""
    return split_examples(load_examples(tasks_folder(data) / f"{task}.jsonl"))
