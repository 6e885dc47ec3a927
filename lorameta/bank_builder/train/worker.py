"""What a worker does for `lorameta bank train`: one task in, the bytes of one adapter and the facts out.

Nothing here touches the bank: a worker may be on another machine, with no file system in common but the base.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lorameta.adapter import peft_format
from lorameta.bank_builder.train.tasks import reason
from lorameta.base_model.load import Base, base_fingerprint
from lorameta.errors import LorametaError
from lorameta.files import tensors
from lorameta.files.atomic import write_file
from lorameta.training import LoraTraining, Parts, Trained, load_base, train_adapter
from lorameta.training.measure import torch_threads

#: Seconds between two notes of how far a training is.
NOTE_EVERY = 2.0
_NO_COLLISIONS = threading.Lock()
_bases: dict[str, Base] = {}  # by fingerprint, one at a time: loading it again for each task would take longer


@dataclass(frozen=True)
class Job:
    """One adapter to be trained.

    Attributes
    ----------
    id : str
    parts : Parts
    base, revision, fingerprint : str
        Where the base is found and which one it must be.
    said : str
        What the adapter's configuration calls the base.
    settings : LoraTraining
    threads : int
        Of torch.
    score_rows : int
        Test rows, at most, on which base and adapter answer; 0 for none.
    status : str
        File in which the worker notes how far it is, on a machine that shares it; "" for none.
    initial : mapping of str to numpy.ndarray, optional
        A of every module to start from; by default drawn from the seed.
    """

    id: str
    parts: Parts
    base: str
    revision: str | None
    fingerprint: str
    said: str
    settings: LoraTraining
    threads: int
    score_rows: int = 0
    status: str = ""
    initial: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `files` of a PEFT directory and JSON-able `facts`, or `error`."""

    id: str
    files: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def train_task(job: Job) -> Outcome:
    """Train one adapter. What is wrong with the task is in the outcome; only a wrong machine is an exception.

    One training at a time in a process: torch's random numbers and its number of threads belong to the process.

    Raises
    ------
    LorametaError
        The base is not on this machine, or is another one there, or a package is missing.
    """
    _keep_freed_memory()
    with _NO_COLLISIONS, torch_threads(job.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what transformers tells peft is not for our users
        base = _base(job)
        try:
            trained = train_adapter(job.parts, base, job.settings, initial=job.initial, progress=_notes(job))
            scores = _scores(job, base, trained)
        except Exception as error:  # a task must not take the others with it
            return Outcome(job.id, error=reason(error))
    facts = {
        "validation_loss": list(trained.history),
        "best_epoch": trained.best_epoch,
        "steps": trained.steps,
        "tokens": trained.tokens,
        "shortened": trained.shortened,
        "losses": trained.losses,
        "scores": scores,
        "seconds": trained.seconds,
        "threads": job.threads,
        "host": platform.node(),
    }
    if trained.diverged:
        hint = f"the learning rate is {job.settings.learning_rate}; try a smaller one"
        return Outcome(job.id, facts=facts, error=f"the training diverged at {trained.diverged}; {hint}")
    return Outcome(job.id, adapter_files(trained, job.settings, job.said, job.revision), facts)


def _scores(job: Job, base: Base, trained: Trained) -> dict[str, dict[str, Any]]:
    """Exact match, ROUGE-L and loss of base and adapter on test rows; empty where none are asked for or left."""
    from lorameta.evaluate import Scorer

    rows = job.parts.test[: job.score_rows]
    if not rows or trained.diverged:
        return {}
    scorer = Scorer.of(base.name, base.model, base.tokenizer)
    return {
        "base": scorer.score(rows).as_dict(),
        "adapter": scorer.score(rows, trained.adapter).as_dict(),
    }


def adapter_files(trained: Trained, settings: LoraTraining, base: str, revision: str | None) -> dict[str, bytes]:
    """Return a PEFT directory with rank and alpha as they were in training; the same adapter gives the same bytes."""
    modules = trained.adapter.modules
    config = json.loads(peft_format.config_bytes(modules, base, revision)) | {"lora_alpha": settings.alpha}
    arrays = {}
    for module, pair in modules.items():
        arrays[f"{peft_format.PREFIX}{module}.lora_A.weight"] = pair.A
        arrays[f"{peft_format.PREFIX}{module}.lora_B.weight"] = pair.B
    return {
        peft_format.CONFIG: (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(),
        peft_format.WEIGHTS: tensors.to_bytes(arrays, dtype=settings.dtype),
    }


def probe(base: str, revision: str | None) -> dict[str, str]:
    """Return what a machine says when it is asked for the base: its name, and the base's fingerprint or what is
    wrong."""
    found = {"host": platform.node()}
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401

        return found | {"fingerprint": base_fingerprint(base, revision)}
    except Exception as error:
        return found | {"error": reason(error)}


def _keep_freed_memory() -> None:
    """Undo what dask sets for its workers: giving freed memory back at once makes each step twice as long.

    Every step frees and takes the same buffers; glibc then maps them again, page by page.
    """
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        return
    with contextlib.suppress(OSError, AttributeError):  # other systems have another allocator
        mallopt, trim_threshold, mmap_threshold = ctypes.CDLL(None).mallopt, -1, -3
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 30)


def _base(job: Job) -> Base:
    if job.fingerprint not in _bases:
        _bases.clear()
        try:
            found = base_fingerprint(job.base, job.revision)
            if found == job.fingerprint:
                _bases[job.fingerprint] = load_base(job.base, job.revision, job.settings.base_dtype)
        except Exception as error:
            raise LorametaError(f"the worker on {platform.node()} cannot train: {reason(error)}") from None
        if found != job.fingerprint:
            raise LorametaError(
                f"the base {job.base} on {platform.node()} is another one than here ({found}, not {job.fingerprint}); "
                "put the same files there"
            )
    return _bases[job.fingerprint]


def _notes(job: Job) -> Callable[[int, int], None]:
    """Notes how far the training is, once two steps were measured and then every two seconds."""
    marks: list[tuple[float, int]] = []
    path = Path(job.status) if job.status else None

    def progress(done: int, total: int) -> None:
        now = time.perf_counter()
        if not marks:
            marks.append((now, done))  # the first step allocates and compiles; it tells nothing of the others
            return
        if path is not None and (len(marks) == 1 or now - marks[-1][0] >= NOTE_EVERY):
            marks[1:] = [(now, done)]
            pace = (now - marks[0][0]) / (done - marks[0][1])
            with contextlib.suppress(LorametaError):  # the estimate is not worth a failure
                write_file(path, json.dumps({"left": (total - done) * pace, "pace": pace}).encode())

    return progress
