"""Rows a step, learning rate and layers: full fine-tunes from scratch on tasks that the quality part does not have.

What was chosen here are the defaults of `finetune`; the quality part then measures them on other tasks. Several seeds,
since a run of so small a base is at the mercy of the order of its rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import stamp
from benchmarks.refine.quality import TINY, choose, file_of, keep, one, place, side_by_side
from benchmarks.rows import read_parts
from lorameta.bank import AdapterBank

#: name -> rows a step, learning rate (None: the library's), uppermost layers that are adapted (None: all six).
SETTINGS: dict[str, tuple[int, float | None, int | None]] = {
    "16 rows a step": (16, None, None),
    "8 rows a step": (8, None, None),
    "8 rows a step, rate 0.006": (8, 0.006, None),
    "4 rows a step": (4, None, None),
    "8 rows a step, upper half": (8, None, 3),
    "8 rows a step, upper third": (8, None, 2),
}


def compare(arguments: Any) -> None:
    options = {"data": str(arguments.data), "epochs": arguments.epochs, "rows": arguments.rows}
    names = choose(AdapterBank.open(TINY), arguments.tasks + arguments.more_tasks)[arguments.tasks :]
    found: dict[str, Any] = {"tasks": {name: [] for name in names}}
    for seed in range(arguments.seeds):
        seeded = options | ({"seed": seed} if seed else {})
        side_by_side(settings_of, names, seeded, arguments.workers)
        for name in names:
            runs = json.loads(file_of(name, seeded, "settings").read_text())
            found["tasks"][name].append({called: runs[called] for called in SETTINGS})
    (place() / "settings.json").write_text(json.dumps({"options": options} | found | stamp(vars(arguments))))


def settings_of(name: str, options: dict[str, Any]) -> None:
    """All settings on one task; nothing if they are there."""
    path = file_of(name, options, "settings")
    if path.exists():
        return
    import torch

    from benchmarks.refine.scoring import UpdateScorer

    torch.set_num_threads(1)
    bank = AdapterBank.open(TINY)
    parts = read_parts(Path(options["data"]), name)
    scorer = UpdateScorer(bank.base_model)
    batches = scorer.prepare(parts.test[: options["rows"]])
    found: dict[str, Any] = {}
    for called, (batch, rate, top) in SETTINGS.items():
        run = one(bank, None, parts, options | {"batch": batch, "rate": rate, "top_layers": top}, scorer, batches)
        found[called] = run["scores"] | {"cpu": run["curve"][-1]["cpu"], "tokens": run["tokens"], "steps": run["steps"]}
    keep(path, found)
