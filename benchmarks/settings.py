"""Candidates, rows and temperature of the operators on labelled rows, chosen on half of the tasks; weights by block.

Each task is left out of the bank. The first 64 of its train rows are looked at, the next 48 measure: the loss and the
exact match of the mixture. What is best on one half of the tasks is reported on the other half, beside the defaults.
`by block` solves for a weight for each adapter and third of the blocks (the four adapters that `stack` weighs most);
its control is a second round of `stack` on the same rows, which costs as many passes.

    python -m benchmarks.settings --data DATA --tasks 12

Resumable, in `.work/settings`.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, stamp, write
from benchmarks.quality.case import LOO, Case, opened
from benchmarks.quality.study import chosen_tasks
from lorameta.adapter import Adapter
from lorameta.mixing.auto import first_by_either
from lorameta.mixing.compare import compare
from lorameta.mixing.weigh import context_of
from lorameta.operator.choice import choose
from lorameta.operator.convex import Linearised, cross_validated
from lorameta.operator.gradient import scores
from lorameta.operator.mixture_loss import MixtureLoss
from lorameta.operator.normalized import normalized
from lorameta.operator.progress import Progress
from lorameta.operator.stack import RIDGES, SCALES, stack

WORK = ROOT / ".work" / "settings"
LOOKED_AT, MEASURED = 64, 48
CANDIDATES, ROWS, TEMPERATURES = (6, 12, 24), (16, 32, 64), (0.1, 0.25, 0.5, 1.0)
#: What `auto` takes with 128 labelled rows and its budget.
DEFAULTS = {"trial": "trial, 12 candidates, 32 rows, T = 0.25", "stack": "stack, 12 candidates, 32 rows"}
GROUPS, SPLIT = 3, 4
ALONE, BY_BLOCK, AGAIN = "stack, 12 candidates, 32 rows", "stack by block", "stack, second round"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tasks' rows, TASK.jsonl or tasks/")
    parser.add_argument("--bank", default="smollm2")
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the base")
    arguments = parser.parse_args()
    bank, scorer = opened(arguments.bank, arguments.dtype)
    tasks = chosen_tasks(bank, str(arguments.tasks))
    WORK.mkdir(parents=True, exist_ok=True)
    found = {}
    for task in tasks:
        kept = WORK / f"{bank.content_hash[:12]}-{arguments.dtype}-{task}.json"
        if not kept.exists():
            case = Case(bank, scorer, arguments.data, task, LOO, 1)
            kept.write_text(json.dumps(measure(case)) + "\n", encoding="utf-8")
        found[task] = json.loads(kept.read_text(encoding="utf-8"))
        print(task, found[task][ALONE], flush=True)
    result = stamp(vars(arguments)) | {
        "bank": bank.name, "dtype": arguments.dtype, "rows": {"looked_at": LOOKED_AT, "measured": MEASURED},
        "halves": {name: halves(found, name) for name in DEFAULTS},
        "by_block": {name: means(found, name) for name in (ALONE, BY_BLOCK, AGAIN)}
        | {f"{name} against one round": paired(found, name, ALONE) for name in (BY_BLOCK, AGAIN)},
        "means": {name: means(found, name) for name in next(iter(found.values()))},
        "by_task": found,
    }  # fmt: skip
    write("settings", result)


def measure(case: Case) -> dict[str, list[float]]:
    """Loss and exact match on rows that were not looked at, of every setting."""
    rows, held = case.train[:LOOKED_AT], case.train[LOOKED_AT : LOOKED_AT + MEASURED]
    near, slopes = candidates(case, rows)
    most = near[first_by_either(slopes, max(CANDIDATES))]
    adapters = [case.bank[case.bank.ids[i]] for i in most]
    loss = MixtureLoss(case.scorer, adapters, rows)
    start = loss.logits(np.zeros(loss.count))
    moved = np.stack([loss.logits(loss.one(i)) - start for i in range(loss.count)])
    there = loss.on(held)

    def result(weights: np.ndarray) -> list[float]:
        measured = there.measure(weights)
        return [round(measured.loss, 5), round(measured.exact_match, 5)]

    found = {"base": result(np.zeros(loss.count))}
    for k, count in product(CANDIDATES, ROWS):
        chosen = np.flatnonzero(np.isin(most, near[first_by_either(slopes, k)]))
        tokens = loss.owner < count
        known = Linearised(start[tokens], moved[chosen][:, tokens])
        alone = np.array([float(known.losses(one).mean()) for one in np.eye(k)])
        for temperature in TEMPERATURES:
            weights = spread(normalized(alone, temperature=temperature), chosen, loss.count)
            found[f"trial, {k} candidates, {count} rows, T = {temperature}"] = result(weights)
        ridge = min(RIDGES, key=lambda one, known=known, owner=loss.owner[tokens]: cross_validated(known, owner, one))
        solved = spread(known.solve(ridge), chosen, loss.count)
        few = loss.on(rows[:count])
        weights = min((scale * solved for scale in SCALES), key=few)
        found[f"stack, {k} candidates, {count} rows"] = result(weights)
        if (k, count) == (12, 32):
            found |= second_rounds(case, rows[:count], held, [adapters[i] for i in chosen], weights[chosen])
    return found


def candidates(case: Case, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """The bank, nearest first, and the slope of the loss towards each, as `auto` finds them."""
    seen = replace(compare(case.train, case.bank, "js"), examples=list(rows))
    choice = choose("gradient", options={"rows": 24, "candidates": len(case.bank)})
    context = context_of(seen, choice, Progress(), case.scorer)
    return context.candidates, scores(context, context.candidates)


def spread(weights: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    found = np.zeros(count)
    found[places] = weights
    return found


def second_rounds(
    case: Case, rows: Any, held: Any, adapters: list[Adapter], weights: np.ndarray
) -> dict[str, list[float]]:
    """A weight for each of the best adapters and third of the blocks; and a second round on whole adapters."""
    best = np.argsort(-weights, kind="stable")[:SPLIT]
    parts = [part for i in best for part in by_block(adapters[i])]
    found = {}
    for name, loss, rounds in (
        (BY_BLOCK, MixtureLoss(case.scorer, parts, rows), 1),
        (AGAIN, MixtureLoss(case.scorer, adapters, rows), 2),
    ):
        solved, _, _ = stack(loss, rounds=rounds)
        measured = loss.on(held).measure(solved)
        found[name] = [round(measured.loss, 5), round(measured.exact_match, 5)]
    return found


def by_block(adapter: Adapter) -> list[Adapter]:
    """The adapter cut into thirds of the blocks; their sum is the adapter."""
    block = {name: int(re.search(r"\.(\d+)\.", name)[1]) for name in adapter.modules}  # type: ignore[index]
    count = max(block.values()) + 1
    return [
        Adapter({name: pair for name, pair in adapter.modules.items() if block[name] * GROUPS // count == group},
                adapter.base_model, name=f"{adapter.name} {group}")
        for group in range(GROUPS)
    ]  # fmt: skip


def halves(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """The setting with the lowest mean loss on one half of the tasks, on the other half beside the default."""
    tasks = list(found)
    result = {}
    for name, chosen, other in (("first", tasks[::2], tasks[1::2]), ("second", tasks[1::2], tasks[::2])):
        here, there = ({task: found[task] for task in half} for half in (chosen, other))
        names = [setting for setting in next(iter(found.values())) if setting.startswith(f"{kind}, ")]
        names = [setting for setting in names if setting != AGAIN]
        best = min(names, key=lambda setting, here=here: means(here, setting)["loss"])
        result[name] = {
            "chosen": best, "there": means(there, best), "default_there": means(there, DEFAULTS[kind]),
            "against_default": paired(there, best, DEFAULTS[kind]),
        }  # fmt: skip
    return result


def means(found: dict[str, Any], name: str) -> dict[str, float]:
    loss, exact = np.mean([line[name] for line in found.values()], axis=0)
    return {"loss": round(float(loss), 4), "exact_match": round(float(exact), 4)}


def paired(found: dict[str, Any], name: str, other: str) -> dict[str, float]:
    """Mean difference by task, and its standard error."""
    apart = np.array([np.subtract(line[name], line[other]) for line in found.values()])
    mean, error = apart.mean(axis=0), apart.std(axis=0, ddof=1) / np.sqrt(len(apart))
    return {
        "loss": round(float(mean[0]), 4), "loss_error": round(float(error[0]), 4),
        "exact_match": round(float(mean[1]), 4), "exact_match_error": round(float(error[1]), 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
