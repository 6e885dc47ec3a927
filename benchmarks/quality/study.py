"""The study: how much of the gap between base and fine-tuning does each way of making an adapter close?

Each task of the bank in turn is the new dataset: its adapter is left out (`loo`), or every adapter of its source is
(`source`), an adapter is made from the others by every method, and its answers on test rows of the task are scored.
`own adapter` is the one that was trained on the task's train rows with the recipe of the bank.

    python -m benchmarks.quality --data DATA --bank smollm2
    python -m benchmarks.quality --data DATA --methods "base,trial,own adapter" --tasks 24 --rows 24

Resumable: each score is kept in `benchmarks/results/scores` when it is measured, a file per task and setting, in a
folder named after the bank's content, the rows and the dtype. So a run that was stopped goes on, on another machine
too, and a run with more methods, tasks or settings measures only what is new; `--again` names what to measure again.
The report counts the tasks on which every method was run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import benchmarks.quality.templates  # noqa: F401  # more methods
from benchmarks.common import RESULTS
from benchmarks.quality.case import LOO, SETTINGS, Case, allowed_ids, counted, opened, seed_of
from benchmarks.quality.methods import BASE, METHODS, OWN, STUDY
from lorameta.bank import AdapterBank
from lorameta.errors import DataError, LorametaError

WORK = RESULTS / "scores"


def main(words: list[str] | None = None) -> None:
    arguments = parse(words)
    bank = AdapterBank.open(arguments.bank)
    tasks = chosen_tasks(bank, arguments.tasks)
    folder = work_folder(bank, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.report_only:
        jobs = [(task, setting) for setting in arguments.settings for task in tasks]
        run(arguments, folder, jobs)
    from benchmarks.quality.report import report

    report(bank, arguments, collect(folder, tasks, arguments))


def parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tasks' rows, TASK.jsonl or tasks/")
    parser.add_argument("--bank", default="smollm2", help="name or directory of the bank")
    parser.add_argument("--methods", default=",".join(STUDY), help="names, separated by commas; `list` shows them")
    parser.add_argument("--tasks", default="", help="names, separated by commas, or a number; all by default")
    parser.add_argument("--rows", type=int, default=24, help="test rows per task at most")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the base")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--workers", type=int, default=1, help="tasks at once, each with a base model in memory")
    parser.add_argument("--work", type=Path, default=WORK, help="where scores are kept")
    parser.add_argument("--again", default="", help="methods to measure again")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    parser.add_argument("--record", metavar="METHOD", help="write the bank's leave_one_out.json from this method")
    parser.add_argument("--record-scores", action="store_true", help="write base's and adapters' scores into bank.json")
    parser.add_argument("--name", help="of the results; quality_BANK by default")
    arguments = parser.parse_args(words)
    if arguments.methods == "list":
        print("\n".join(METHODS))
        raise SystemExit(0)
    arguments.methods = with_ends(names_of(arguments.methods, parser))
    arguments.again = names_of(arguments.again, parser)
    return arguments


def names_of(text: str, parser: argparse.ArgumentParser) -> list[str]:
    """Names of methods in a list; some have a comma in their name, so the longest that fits is taken."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = []
    while parts:
        for count in (3, 2, 1):
            name = ", ".join(parts[:count])
            if name in METHODS:
                break
        else:
            parser.error(f"there is no method {parts[0]!r}; there are {'; '.join(METHODS)}")
        found.append(name)
        parts = parts[count:]
    return found


def with_ends(names: list[str]) -> list[str]:
    """The methods in the order in which they can run: with the ends of the scale, and after what they read."""
    wanted = dict.fromkeys([BASE, *names, OWN])
    ordered: dict[str, None] = {}
    for name in wanted:
        ordered |= dict.fromkeys([*METHODS[name].after, name])
    return list(ordered)


def chosen_tasks(bank: AdapterBank, text: str) -> list[str]:
    """All tasks, those that were named, or so many of as many families as possible, in an order that a hash decides."""
    if text and not text.isdecimal():
        names = [name.strip() for name in text.split(",") if name.strip()]
        if missing := [name for name in names if name not in bank]:
            raise SystemExit(f"the bank {bank.name} has no adapter of {', '.join(missing)}")
        return names
    families = defaultdict(list)
    for name in sorted(bank.ids, key=lambda name: seed_of("task", name)):
        families[bank.records[name].family].append(name)
    groups = sorted(families.values(), key=lambda group: seed_of("family", bank.records[group[0]].family))
    turns = [group[i] for i in range(max(map(len, groups))) for group in groups if i < len(group)]
    return turns[: int(text)] if text else turns


def work_folder(bank: AdapterBank, arguments: argparse.Namespace) -> Path:
    """Scores depend on the bank's content and on the number of test rows."""
    return arguments.work / f"{bank.content_hash[:12]}-{arguments.rows}-{arguments.dtype}"


def run(arguments: argparse.Namespace, folder: Path, jobs: list[tuple[str, str]]) -> None:
    """Measure what is missing, one process per task, with the time left on stderr."""
    options = {name: getattr(arguments, name) for name in ("data", "bank", "rows", "methods", "again", "dtype")}
    work = [
        (task, setting, folder, options) for task, setting in jobs if missing_methods(folder, task, setting, options)
    ]
    begun = time.time()
    if arguments.workers == 1:
        for done, job in enumerate(work, start=1):
            tell(done, len(work), begun, measure(*job))
        return
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(measure, *job) for job in work]
        for done, future in enumerate(as_completed(futures), start=1):
            tell(done, len(work), begun, future.result())


def tell(done: int, count: int, begun: float, said: str) -> None:
    left = (time.time() - begun) / done * (count - done) / 60
    print(f"{done}/{count} {said}, about {left:.0f} min left", file=sys.stderr, flush=True)


def score_file(folder: Path, task: str, setting: str) -> Path:
    return folder / f"{setting}-{task}.jsonl"


def read_scores(path: Path) -> dict[str, dict[str, Any]]:
    """Scores by method; the last line counts, and one that was cut off by a kill does not."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry.pop("method")] = entry
    return found


def missing_methods(folder: Path, task: str, setting: str, options: dict[str, Any]) -> list[str]:
    done = read_scores(score_file(folder, task, setting))
    wanted = [name for name in options["methods"] if setting == LOO or METHODS[name].uses_bank]
    return [name for name in wanted if name not in done or name in options["again"]]


def measure(task: str, setting: str, folder: Path, options: dict[str, Any]) -> str:
    """Run every missing method on one task and append its scores to the task's file."""
    bank, scorer = opened(options["bank"], options["dtype"])
    if setting != LOO and set(allowed_ids(bank, task, setting)) == set(allowed_ids(bank, task, LOO)):
        return f"{task} {setting}: as {LOO}, its source has no other task"
    path = score_file(folder, task, setting)
    case = Case(bank, scorer, options["data"], task, setting, options["rows"])
    if not case.test:
        raise DataError(f"{task} has no test row in {options['data']}")
    case.done = read_scores(path)
    for name in missing_methods(folder, task, setting, options):
        with counted() as cost:
            try:
                made = METHODS[name].make(case)
            except LorametaError as error:
                print(f"{task} {setting} {name}: {error}", file=sys.stderr, flush=True)
                continue
        case.done[name] = {**case.score(made), **cost, "labelled": made.labelled, **(made.facts or {})}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"method": name, **case.done[name]}) + "\n")
    return f"{task} {setting}"


def collect(folder: Path, tasks: list[str], arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """Setting → task → method → scores; of a setting, the tasks with all methods that were run in it.

    Where a task or a method is the same in both settings, the scores of `loo` stand in both. A method that could not
    be run on any task (a base without a chat template, a missing extra) is taken off the list.
    """
    loo = {task: read_scores(score_file(folder, task, LOO)) for task in tasks}
    for name in [name for name in arguments.methods if not any(name in line for line in loo.values())]:
        print(f"{name} is left out of the report: it was run on no task", file=sys.stderr)
        arguments.methods.remove(name)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for setting in arguments.settings:
        own = {task: read_scores(score_file(folder, task, setting)) for task in tasks}
        names = [n for n in arguments.methods if not METHODS[n].uses_bank or any(n in line for line in own.values())]
        scores = {task: {n: one for n, one in (loo[task] | own[task]).items() if n in names} for task in tasks}
        whole = {task: line for task, line in scores.items() if all(name in line for name in names)}
        if whole:
            found[setting] = whole
        for task in tasks:
            if absent := [name for name in names if name not in scores[task]]:
                print(f"{setting} {task} is left out of the report: no {', '.join(absent)}", file=sys.stderr)
    if not found:
        raise SystemExit("no task has all methods yet")
    return found
