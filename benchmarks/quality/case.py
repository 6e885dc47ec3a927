"""One task of a bank as the new dataset: its rows, the bank without it, and what a method may do with both."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.common import ROOT
from benchmarks.rows import read_parts
from lorameta.adapter import Adapter
from lorameta.bank import AdapterBank
from lorameta.data import Example
from lorameta.evaluate import Scorer
from lorameta.generate import generate_adapter

#: Labelled rows that an operator or a training may look at, where a method limits them.
LABELLED = 16
LOO, SOURCE = "loo", "source"
#: Parts of the sources, of which each in turn is left out of an adapter of all tasks.
FOLDS = 4
SETTINGS = (LOO, SOURCE)


def sources_of(bank: AdapterBank) -> dict[str, str]:
    """The dataset from which the rows of each task were taken, by task."""
    return {name: str(bank.records[name].source.get("name", name)) for name in bank.ids}


def allowed_ids(bank: AdapterBank, task: str, setting: str) -> list[str]:
    """The adapters that a task may use: not its own; in the setting ``source``, none of its source either."""
    if setting == LOO:
        return [name for name in bank.ids if name != task]
    sources = sources_of(bank)
    return [name for name in bank.ids if sources[name] != sources[task]]


def without_fold(bank: AdapterBank, task: str) -> tuple[int, list[str]]:
    """The quarter of the sources that the task's is in, and the tasks of the others."""
    sources = sources_of(bank)
    fold = {source: seed_of("fold", source) % FOLDS for source in sources.values()}
    left_out = fold[sources[task]]
    return left_out, [name for name in bank.ids if fold[sources[name]] != left_out]


def seed_of(*words: object) -> int:
    """A seed that depends on the words alone."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, words)).encode()).digest()[:4], "big")


@dataclass
class Made:
    """What a method made: an adapter, or other prompts for the base, or scores.

    Attributes
    ----------
    adapter : Adapter or None
        None for the base.
    prompts : sequence of Example, optional
        In place of the test rows.
    scores : dict, optional
        In place of scoring, for a mean of several adapters.
    labelled : int
        Labelled rows of the new dataset that were looked at.
    facts : dict
        JSON-able; kept with the scores.
    """

    adapter: Adapter | None = None
    prompts: Sequence[Example] | None = None
    scores: dict[str, float] | None = None
    labelled: int = 0
    facts: dict[str, Any] | None = None


class Case:
    """One task, left out of the bank.

    Attributes
    ----------
    task, setting : str
    whole : AdapterBank
        With the adapter of the task.
    bank : AdapterBank
        Without it, and in the setting ``source`` without all adapters of its source.
    train, validation, test : tuple of Example
        The rows that a method may use, those that a training may measure itself by, and at most `rows` that are scored.
    scorer : Scorer
        The base model in memory.
    done : dict
        Scores of methods that were run before, by name.
    """

    def __init__(self, bank: AdapterBank, scorer: Scorer, data: Path, task: str, setting: str, rows: int) -> None:
        parts = read_parts(data, task)
        self.task, self.setting, self.whole, self.data = task, setting, bank, data
        self.bank = bank.select(allowed_ids(bank, task, setting))
        self.train, self.validation, self.test = parts.train, parts.validation, parts.test[:rows]
        self.scorer = scorer
        # An answer that is longer than every reference is wrong, so no more is generated.
        references = [f" {text}" for row in self.test for text in row.outputs]
        scorer.max_new_tokens = 2 + max((len(ids) for ids in scorer.tokenizer(references)["input_ids"]), default=30)
        self.done: dict[str, dict[str, Any]] = {}

    def labelled(self, count: int = LABELLED) -> list[Example]:
        """The first rows to learn from; their order is that of their hashes."""
        return list(self.train[:count])

    def unlabelled(self) -> list[Example]:
        """The train rows without their answers."""
        return [replace(row, outputs=()) for row in self.train]

    def generate(self, rows: Sequence[Example] | None = None, **options: Any) -> Adapter:
        """`lorameta.generate_adapter` on the train rows and the bank without the task."""
        with in_memory(self.scorer, self.bank), without_source(self.whole, self.task, self.data):
            return generate_adapter(list(self.train if rows is None else rows), bank=self.bank, **options)

    def score(self, made: Made) -> dict[str, float]:
        """Loss, exact match and ROUGE-L on the test rows."""
        return made.scores or self.scores(made.adapter, made.prompts)

    def scores(self, adapter: Adapter | None, rows: Sequence[Example] | None = None) -> dict[str, float]:
        """Scores of the base, or of an adapter on it: attached as hooks, which PEFT does in float32 and slower."""
        from lorameta.operator.factors import Factors

        rows = self.test if rows is None else rows
        if adapter is None:
            return self.scorer.score(rows).as_dict()
        with Factors(self.scorer.model, [adapter]).attached(np.ones(1)):
            return self.scorer.score(rows).as_dict()

    def losses(self, rows: Sequence[Example]) -> np.ndarray:
        """Loss of each adapter of the bank on some rows, in the order of ``bank.ids``."""
        from lorameta.operator.mixture_loss import MixtureLoss

        return np.array([MixtureLoss(self.scorer, [self.bank[name]], rows)(np.ones(1)) for name in self.bank])


@contextmanager
def counted() -> Iterator[dict[str, float]]:
    """Count seconds, CPU seconds and the tokens that go into any embedding layer inside the block."""
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    found: dict[str, float] = {"forward_tokens": 0}

    def count(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Embedding) and inputs:
            found["forward_tokens"] += inputs[0].numel()

    hook, wall, cpu = register_module_forward_pre_hook(count), time.perf_counter(), time.process_time()
    try:
        yield found
    finally:
        hook.remove()
        found["seconds"] = round(time.perf_counter() - wall, 2)
        found["cpu_seconds"] = round(time.process_time() - cpu, 2)


@contextmanager
def in_memory(scorer: Scorer, bank: AdapterBank) -> Iterator[None]:
    """Let what loads the bank's base inside the block have the scorer's: loading is not what the study measures."""
    from lorameta.base_model import load

    found = load.Base(scorer.model, scorer.tokenizer, bank.base_model, bank.base_revision)
    with mock.patch.object(load, "load_base", return_value=found):
        yield


@contextmanager
def without_source(whole: AdapterBank, task: str, data: Path) -> Iterator[None]:
    """Let the bank's adapter of all tasks be one that was trained without the source of a task.

    It is trained, as that of the bank, on the tasks of the other three quarters of the sources, and kept in
    ``.work``: four of them serve all tasks. Like the bank's it is no part of what a user waits for.
    """
    from lorameta.mixing.multi_task_fit import train

    def load(bank: AdapterBank) -> Adapter:
        left_out, names = without_fold(whole, task)
        kept = ROOT / ".work" / "multi_task" / f"{whole.content_hash[:12]}-operator-{left_out}"
        if not kept.is_dir():
            parts = {name: read_parts(data, name) for name in names}
            train(whole.select(names), parts).adapter.save_pretrained(kept)
        return Adapter.from_pretrained(kept)

    with mock.patch("lorameta.operator.multi_task_file.load", side_effect=load):
        yield


@functools.cache
def opened(bank: str, dtype: str) -> tuple[AdapterBank, Scorer]:
    """The bank and its base model, once per process."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found = AdapterBank.open(bank)
    return found, Scorer(found.base_model, revision=found.base_revision, dtype=dtype)
