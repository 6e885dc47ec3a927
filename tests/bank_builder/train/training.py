"""Three small tasks, the settings that they are trained with, and the run in this process."""

from __future__ import annotations

import json
from pathlib import Path

from lorameta.bank_builder.train import run as run_module
from lorameta.bank_builder.train import train_bank
from lorameta.bank_builder.train.worker import Job, Outcome, train_task
from lorameta.training import LoraTraining
from tests.conftest import task_rows

SETTINGS = LoraTraining(
    rank=2, alpha=4, targets=("q_proj", "v_proj"), learning_rate=2e-2, epochs=2, batch_size=8, dtype="bfloat16"
)
NAMES = ("animal_sound", "number_word", "thing_colour")


def write_tasks(folder: Path, names=NAMES, count: int = 30) -> Path:
    folder.mkdir()
    for name in names:
        lines = [json.dumps(row) for row in task_rows(name, count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    index = [
        {"id": names[0], "family": "facts", "licence": "CC0-1.0", "definition": "Say it.", "source": {"repo": "x"}}
    ]
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def content(bank: Path) -> dict[str, bytes]:
    """Every file of a bank, work in progress left out."""
    files = (path for path in sorted(bank.rglob("*")) if path.is_file())
    return {p.relative_to(bank).as_posix(): p.read_bytes() for p in files if ".lorameta" not in p.parts}


def run(tasks: Path, base: Path, output: Path, **options):
    """In this process, with one thread."""
    defaults = {"settings": SETTINGS, "name": "trained", "jobs": 1, "threads": 1}
    return train_bank(tasks, base, output, **{**defaults, **options})


def trained_ids(monkeypatch) -> list[str]:
    """The ids that are trained from now on, as they are."""
    seen: list[str] = []

    def spy(job: Job) -> Outcome:
        seen.append(job.id)
        return train_task(job)

    monkeypatch.setattr(run_module, "train_task", spy)
    return seen
