"""What a run is going to do, on how many workers: decided before the first training."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.bank_builder.train.common_a import CommonA
from lorameta.bank_builder.train.tasks import Task, reason
from lorameta.bank_builder.train.worker import probe
from lorameta.base_model.config import commit_of
from lorameta.data import ReadReport, fingerprint, read_alike
from lorameta.encoder import DatasetSummary
from lorameta.errors import LorametaError, UsageError, violations
from lorameta.files.atomic import sha256
from lorameta.files.links import user_path
from lorameta.training import LoraTraining, Parts
from lorameta.training.train import ENGINE

#: Bases with more parameters keep all cores busy by themselves; of smaller ones several are trained side by side.
SMALL = 300_000_000
#: Test rows that a small base answers.
SCORED = 64
#: Memory that a process takes before it loads the base, and what it takes for each of the base's parameters.
_PROCESS_BYTES, _PARAMETER_BYTES = 700_000_000, 5


@dataclass(frozen=True)
class BankPlan:
    """What a run is going to do.

    Attributes
    ----------
    tasks : int
    rows, tokens, steps : int
        Of the trainings that are still to be done; tokens of the training rows, once.
    missing : tuple of str
        Ids of the tasks that are still to be trained.
    finished : tuple of str
        Ids of those that an earlier run trained.
    unusable : dict of str to str
        Tasks whose rows cannot be used, and why.
    workers, threads : int
        Trainings at once, and threads of each.
    why : str
        Where these two come from.
    settings : LoraTraining
        With the learning rate that is used.
    read : tuple of str
        What was made of the columns of the datasets, a line for all that were read alike.
    """

    tasks: int
    rows: int
    tokens: int
    steps: int
    missing: tuple[str, ...]
    finished: tuple[str, ...]
    unusable: dict[str, str]
    workers: int
    threads: int
    why: str
    settings: LoraTraining
    read: tuple[str, ...] = ()


@dataclass
class BankRun:
    """The state of a run: what the parts below share."""

    root: Path
    base: str
    revision: str | None
    said: str
    fingerprint: str
    settings: LoraTraining
    tasks: dict[str, Task]
    score_rows: int = 0
    parts: dict[str, Parts] = field(default_factory=dict)
    summaries: dict[str, DatasetSummary] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    initial: CommonA | None = None
    prompt_template: str = ""
    reads: list[ReadReport] = field(default_factory=list)

    def tokens(self, id: str) -> int:
        """Return the tokens of the rows that a task is trained on, prompt and answer."""
        counts = self.summaries[id].token_counts
        whole = int(counts.sum()) if counts is not None else 0
        return whole * len(self.settings.rows_of(self.parts[id]).train) // max(1, len(self.parts[id].train))

    def work(self, id: str) -> float:
        """Token passes of a task's training; measuring a row takes about a third of training on it."""
        parts, tokens = self.settings.rows_of(self.parts[id]), self.tokens(id)
        held_out = (len(parts.validation) * (self.settings.epochs + 2) + 2 * len(parts.test)) / max(1, len(parts.train))
        return tokens * (self.settings.epochs + held_out / 3)


def locate(base: str | PathLike[str], revision: str | None, root: Path) -> tuple[str, str | None, str]:
    """Return where the base is, its revision, and what the bank calls it."""
    path = user_path(base)
    if path.is_dir():
        path = path.resolve()
        if path.is_relative_to(root):
            return str(path), None, path.relative_to(root).as_posix()
        return str(path), None, str(path)
    return str(base), commit_of(str(base), revision), str(base)


def key_of(run: BankRun, parts: Parts) -> str:
    """Return what a finished adapter depends on."""
    rows = {part: fingerprint(getattr(parts, part)) for part in ("train", "validation", "test")}
    content = [ENGINE, rows, run.said, run.revision, run.fingerprint, run.settings.as_dict(), run.score_rows]
    if run.initial is not None:
        content.append(run.initial.sha256)
    return sha256(json.dumps(content, sort_keys=True).encode())


def shares(parameters: int, jobs: int | None, threads: int | None, client: Any) -> tuple[int, int, str]:
    """Trainings at once, threads of each, and why."""
    for option, value in (("--jobs", jobs), ("--threads", threads)):
        if value is not None and value < 1:
            raise UsageError(f"{option} is {value}; it must be at least 1")
    if client is not None:
        if jobs is not None:
            raise UsageError("--jobs has no meaning with --dask: the cluster has as many workers as were started")
        cores = client.nthreads()
        return len(cores), threads or min(cores.values()), f"the cluster has {len(cores)} workers"
    import joblib
    import psutil  # type: ignore[import-untyped]

    cores = joblib.cpu_count()
    if jobs is not None or threads is not None:
        jobs = jobs or max(1, cores // (threads or 1))
        return jobs, threads or max(1, cores // jobs), "as asked for"
    if parameters >= SMALL:
        return 1, cores, f"a base of {parameters / 1e6:,.0f} M parameters keeps all {cores} cores busy"
    fitting = int(psutil.virtual_memory().available // (_PROCESS_BYTES + _PARAMETER_BYTES * parameters))
    if fitting < cores:
        return max(1, fitting), 1, f"memory holds {max(1, fitting)} processes; there are {cores} cores"
    return cores, 1, f"a process for each of the {cores} cores, since the base is small"


def check_cluster(client: Any, run: BankRun) -> None:
    """Ask every worker for the base before anything is sent to it."""
    answers = client.run(probe, run.base, run.revision, on_error="return")
    problems = []
    for address, answer in sorted(answers.items()):
        if isinstance(answer, BaseException):
            problems.append(f"{address}: {reason(answer) if isinstance(answer, Exception) else answer!r}")
        elif "error" in answer:
            problems.append(f"{address} on {answer['host']}: {answer['error']}")
        elif answer["fingerprint"] != run.fingerprint:
            problems.append(f"{address} on {answer['host']}: {run.base} is another base there")
    if problems:
        remedy = "Every worker needs lorameta[dask] and the base under the same path, or the same Hub id."
        raise LorametaError(violations(problems, "these workers cannot train:", remedy))


def make_plan(run: BankRun, workers: int, threads: int, why: str) -> BankPlan:
    """Return what is left to do, and on what."""
    missing = [id for id in run.keys if id not in run.facts]
    rows = {id: len(run.settings.rows_of(run.parts[id]).train) for id in missing}
    steps = sum(run.settings.epochs * -(-count // run.settings.batch_size) for count in rows.values())
    return BankPlan(
        tasks=len(run.tasks),
        rows=sum(rows.values()),
        tokens=sum(run.tokens(id) for id in missing),
        steps=steps,
        missing=tuple(missing),
        finished=tuple(run.facts),
        unusable=dict(run.failed),
        workers=workers,
        threads=threads,
        why=why,
        settings=run.settings,
        read=tuple(read_alike(run.reads)),
    )
