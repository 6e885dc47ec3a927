"""`train_bank`: a bank of adapters from a folder of datasets; what a killed run finished is not done again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from lorameta.bank.manifest import MANIFEST, read_manifest
from lorameta.bank_builder.train.common_a import a_key, make_a, stored_a
from lorameta.bank_builder.train.estimate import pace, time_left
from lorameta.bank_builder.train.plan import (
    SCORED,
    SMALL,
    BankPlan,
    BankRun,
    check_cluster,
    key_of,
    locate,
    make_plan,
    shares,
)
from lorameta.bank_builder.train.spread import Lost, close_workers, connected, spread
from lorameta.bank_builder.train.store import TrainedAdapters
from lorameta.bank_builder.train.tasks import find_tasks, read_rows, reason
from lorameta.bank_builder.train.worker import Job, Outcome, train_task
from lorameta.bank_builder.train.write import token_encoder, weak, write
from lorameta.data import ReadOptions
from lorameta.errors import LorametaError, UsageError
from lorameta.files import json_text
from lorameta.files.links import user_path
from lorameta.machine.ticking import ticking
from lorameta.training import LoraTraining
from lorameta.training.train import ENGINE


@dataclass(frozen=True)
class BankProgress:
    """How far a run is.

    Attributes
    ----------
    done, total : int
        Tasks; those that an earlier run finished count.
    last : str
        Id of the task that was finished last; "" if none was yet.
    losses : tuple of float, or None
        Its validation loss without and with the adapter; None if it failed.
    left : float or None
        Seconds that the run will still take; None until two steps of a training were measured.
    fresh : bool
        Whether `last` is news.
    """

    done: int
    total: int
    last: str = ""
    losses: tuple[float, float] | None = None
    left: float | None = None
    fresh: bool = False


@dataclass(frozen=True)
class BankTraining:
    """What a run made.

    Attributes
    ----------
    bank : Path or None
        The bank's directory; None if no adapter is good enough for one.
    plan : BankPlan
    adapters : dict of str to dict
        Facts of the adapters in the bank: validation losses by epoch, best epoch, losses, seconds, ...
    left_out : dict of str to str
        Adapters that do not beat the base, and their losses.
    failed : dict of str to str
        Tasks without an adapter, and why.
    seconds : float
    """

    bank: Path | None
    plan: BankPlan
    adapters: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    failed: dict[str, str]
    seconds: float


def train_bank(
    tasks: str | PathLike[str],
    base: str | PathLike[str],
    output: str | PathLike[str],
    *,
    settings: LoraTraining | None = None,
    revision: str | None = None,
    name: str | None = None,
    index: str | PathLike[str] | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    dask: str | None = None,
    keep_all: bool = False,
    sentences: bool = False,
    score_rows: int | None = None,
    force: bool = False,
    calibration: Sequence[str | PathLike[str]] = (),
    prompt_template: str = "",
    reading: ReadOptions | None = None,
    planned: Callable[[BankPlan], bool] | None = None,
    report: Callable[[BankProgress], object] | None = None,
) -> BankTraining | None:
    """Train an adapter on each dataset of a folder, and make a bank of them.

    A row is for training (80 %), validation (8 %) or test (12 %) by its hash. An adapter gets into the bank if it has
    a lower validation loss than the base. Its summary is made of the training rows alone. All adapters start from one
    A. What is finished is kept in ``OUTPUT/.lorameta/train`` at once, under a key of rows, base and settings: the same
    call does only what is missing, and ends with the same bank as a run that was never interrupted. A task that fails
    does not stop the others; the bank is made of those that succeed.

    Parameters
    ----------
    tasks : path
        Folder with a dataset in each file; see :func:`lorameta.bank_builder.train.tasks.find_tasks`, also for `index`.
    base : str or path
        What ``AutoModelForCausalLM.from_pretrained`` takes.
    output : path
        The bank's directory: new, or that of an earlier run.
    settings : LoraTraining, optional
        Of every adapter; bfloat16 by default, else as in :class:`lorameta.training.LoraTraining`.
    revision : str, optional
        Of a base on the Hub.
    name : str, optional
        Of the bank; by default that of its directory.
    jobs, threads : int, optional
        Trainings at once, and threads of each. By default a base below 300 million parameters is trained on by as many
        processes as there are cores (as far as memory goes), and a larger one by one process with all cores. With
        `dask` the workers decide: each trains one adapter at a time, with the threads it was started with.
    dask : str, optional
        Address of the scheduler of a dask cluster. The base must be on every worker, under the same name.
    keep_all : bool
        Keep adapters that do not beat the base.
    sentences : bool
        Summarise sentence embeddings as well (of 256 training rows at most).
    score_rows : int, optional
        Test rows of each task, at most, that base and adapter answer, for exact match and ROUGE-L. By default 64 for a
        base below 300 million parameters and none for a larger one, whose answers take long.
    force : bool
        Train again what `output` holds of other settings.
    calibration : sequence of paths
        Files of generic text, plain or ``.gz``, for ``settings.init_a = "principal"``.
    prompt_template : str
        What stands around the input of a row, with ``{input}`` in it, or ``"chat"``, the base's chat template. The bank
        keeps it, and uses it wherever it meets rows. By default inputs are whole prompts.
    reading : ReadOptions, optional
        How datasets are read.
    planned : callable, optional
        Is shown the plan before the work; the run ends there, and None is returned, if it answers False.
    report : callable, optional
        Is shown the progress after each task, and each second in between (from another thread).

    Returns
    -------
    BankTraining or None

    Raises
    ------
    DataError, UsageError, BankError, MissingExtraError
        Something is wrong with the call, the folder or the base.
    LorametaError
        The bank cannot be written, or the cluster fails; what was finished stays.
    """
    from lorameta.base_model.config import find_config
    from lorameta.base_model.load import base_fingerprint, load_tokenizer
    from lorameta.base_model.shape import chosen_paths, linear_shapes, meta_model
    from lorameta.base_model.templates import ChatTemplate, resolved

    begun = time.perf_counter()
    found = {task.id: task for task in find_tasks(tasks, index)}
    root = user_path(output).resolve()
    source, commit, said = locate(base, revision, root)
    model = meta_model(find_config(source, revision), "float32")
    settings = settings or LoraTraining(dtype="bfloat16")
    chosen_paths(linear_shapes(model), settings.targets, said)  # all targets are layers of the base
    settings = replace(settings, learning_rate=settings.rate(model.config.hidden_size))
    if score_rows is not None and score_rows < 0:
        raise UsageError(f"--score-rows is {score_rows}; it must be at least 0")
    if score_rows is None:
        score_rows = SCORED if model.num_parameters() < SMALL else 0
    run = BankRun(root, source, commit, said, base_fingerprint(source, revision), settings, found, score_rows)
    run.prompt_template = resolved(prompt_template, source, revision)
    store = TrainedAdapters(
        root, {"base": run.fingerprint, "said": said, "settings": settings.as_dict(), "engine": ENGINE}, Path(source)
    )
    store.require(force=force)
    recipe = a_key(run.fingerprint, settings, calibration)
    with ExitStack() as stack:
        client = stack.enter_context(connected(dask)) if dask else None
        chat = cache(lambda: ChatTemplate.of(load_tokenizer(source, revision), said))
        encoder = token_encoder(run, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for id, task in found.items():
            try:
                parts = read_rows(
                    task, prompt_template=run.prompt_template, chat=chat, reading=reading, reads=run.reads
                )
                run.parts[id], run.summaries[id] = parts, encoder.encode(parts.train)
            except LorametaError as error:
                run.failed[id] = reason(error)
                continue
        run.initial = stored_a(store.folder, recipe)
        run.keys = {id: key_of(run, parts) for id, parts in run.parts.items()}
        manifest = read_manifest(root) if (root / MANIFEST).is_file() else None
        for id, key in run.keys.items():
            if (facts := store.facts(id, key, manifest)) is not None:
                run.facts[id] = facts
        if client is not None:
            check_cluster(client, run)
        workers, threads, why = shares(model.num_parameters(), jobs, threads, client)
        plan = make_plan(run, workers, threads, why)
        if planned is not None and not planned(plan):
            return None
        stack.enter_context(store.working())
        if recipe is not None and run.initial is None and plan.missing:
            run.initial = make_a(store.folder, recipe, source, revision, settings, calibration)
            run.keys = {id: key_of(run, parts) for id, parts in run.parts.items()}
        for id in run.facts:
            store.reclaim(id, run.facts[id], manifest)
        _train(run, store, plan, client, report)
        left_out = {} if keep_all else {id: bad for id, facts in run.facts.items() if (bad := weak(facts))}
        kept = {id: facts for id, facts in sorted(run.facts.items()) if id not in left_out}
        bank = None
        if kept:
            bank = write(run, store, encoder, plan, kept, {**left_out, **run.failed}, name or root.name, sentences)
    return BankTraining(bank, plan, kept, left_out, dict(run.failed), time.perf_counter() - begun)


def _train(
    run: BankRun, store: TrainedAdapters, plan: BankPlan, client: Any, report: Callable[[BankProgress], object] | None
) -> None:
    """Do what is missing, the longest first, and keep each adapter as soon as it is there."""
    if not plan.missing:
        return
    order = sorted(plan.missing, key=lambda id: (-run.work(id), id))
    workers = min(plan.workers, len(order)) if client is None else plan.workers
    progress = BankProgress(len(run.facts) + len(run.failed), plan.tasks)
    finished: list[tuple[float, float]] = []
    waiting = dict.fromkeys(order)
    epochs = run.settings.epochs
    with tempfile.TemporaryDirectory(prefix="lorameta-") as notes:
        shared = client is None

        def left() -> float | None:
            running = {id: note for id in list(waiting) if (note := json_text.read_object(Path(notes) / id))}
            found = pace(
                finished, [note["pace"] * epochs * run.tokens(id) / run.work(id) for id, note in running.items()]
            )
            if found is None:
                return None
            rest = [found * run.work(id) for id in list(waiting) if id not in running]
            return time_left([note["left"] for note in running.values()], rest, max(workers, len(running)))

        def tick() -> None:
            assert report is not None
            report(replace(progress, left=left()))

        jobs = [
            Job(
                id, run.parts[id], run.base, run.revision, run.fingerprint, run.said, run.settings, plan.threads,
                run.score_rows, str(Path(notes) / id) if shared else "",
                None if run.initial is None else run.initial.arrays,
            )
            for id in order
        ]  # fmt: skip
        try:
            with nullcontext() if report is None else ticking(tick):
                for index, outcome in spread(train_task, jobs, workers=workers, threads=plan.threads, client=client):
                    id = order[index]
                    del waiting[id]
                    if isinstance(outcome, Lost):
                        outcome = Outcome(id, error=f"its worker was killed twice, probably for memory: {outcome.why}")
                    losses = None
                    if outcome.error:
                        run.failed[id] = outcome.error
                    else:
                        run.facts[id] = store.keep(id, run.keys[id], outcome.files, outcome.facts)
                        finished.append((run.work(id), outcome.facts["seconds"]))
                        validation = outcome.facts["losses"]["validation"]
                        losses = (validation["base"], validation["adapter"])
                    progress = BankProgress(len(run.facts) + len(run.failed), plan.tasks, id, losses)
                    if report is not None:
                        report(replace(progress, left=left(), fresh=True))
        finally:
            if shared and workers > 1:
                close_workers()
