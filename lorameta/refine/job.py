"""`prepare`: everything up to the first step of a training, ending in a plan; `Job.run`: the rest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorameta import peft_format, tensors
from lorameta.adapter import Adapter
from lorameta.batching import EncodedExample
from lorameta.data import Example
from lorameta.doctor.base import Outline, find_config, linear_shapes, meta_model, outline
from lorameta.doctor.machine import THREAD_VARIABLES, look
from lorameta.doctor.need import ITEMSIZE, TRAINED_BYTES
from lorameta.doctor.speed import LOGIT_BYTES
from lorameta.refine import room
from lorameta.refine.base import Base, base_fingerprint, cast, load_base, load_tokenizer
from lorameta.refine.checkpoint import Store
from lorameta.refine.loop import Hooks, Loop
from lorameta.refine.measure import MARGIN, Pace, checkpointed, kept_bytes, measure, peak_memory, quicker, without_cache
from lorameta.refine.options import RefineSettings
from lorameta.refine.plan import ROOM, Plan, held_out_for, refuse_time, steps_in, training_seconds
from lorameta.refine.progress import Log, Progress
from lorameta.refine.rows import HELD_OUT, encode_rows, pieces
from lorameta.refine.settings import ALL_LINEAR, LoraTraining
from lorameta.refine.split import Parts
from lorameta.refine.start import check_start, cut, lay_on
from lorameta.refine.steps import answers, piece_tokens
from lorameta.refine.train import lora_on, pairs_of

#: Raised whenever the same rows and settings would give other numbers: checkpoints of before are then no use.
ENGINE = 1


@dataclass
class Job:
    """A training that is ready to begin.

    Attributes
    ----------
    plan : Plan
    """

    plan: Plan
    _model: Any
    _base: Base
    _said: tuple[str, str | None]
    _rows: tuple[Sequence[EncodedExample], Sequence[EncodedExample]]
    _settings: LoraTraining
    _options: RefineSettings
    _start: Adapter | None
    _store: Store | None
    _spent: float
    _log: Log = field(default_factory=lambda: Log(None))

    def run(
        self,
        *,
        report: Callable[[Progress], object] | None = None,
        observe: Callable[[int, float, Mapping[str, Any]], object] | None = None,
    ) -> Adapter:
        """Train, and return the best state that the held-out rows saw; a start that was given is one of them.

        Parameters
        ----------
        report, observe : callable, optional
            See :class:`lorameta.refine.loop.Hooks`.

        Returns
        -------
        Adapter
            With ``report["refinement"]``.
        """
        import torch

        plan, options = self.plan, self._options
        if self._store is not None:
            self._store.begin(plan)
        hooks = Hooks(report, observe, self._store, self._log, 60 * options.save_minutes, options.save_steps)
        self._log.write("plan", **plan.as_dict())
        loop = Loop(self._model, *self._rows, plan, self._settings, self._base.tokenizer.pad_token_id, hooks)
        with peak_memory() as peak:
            loop.run(self._spent)
            largest = peak()
        with torch.no_grad():
            for name, value in loop.best.items():
                loop.parameters[name].copy_(value)
        state = loop.state
        losses = dict(state.history)
        about = {
            "start": "mixture" if self._start is not None and self._start.weights else plan.start,
            "steps": state.step,
            "best_step": state.best_step,
            "loss_at_start": state.history[0][1],
            "loss": losses[state.best_step],
            "history": [[step, round(loss, 5)] for step, loss in state.history],
            "rows": plan.rows,
            "held_out": plan.held_out,
            "shortened": plan.shortened,
            "tokens": state.tokens,
            "seconds": round(state.elapsed, 3),
            "tokens_per_second": round(state.tokens / state.elapsed, 1) if state.elapsed else None,
            "peak_memory_mb": round(largest / 1e6),
            "precision": plan.precision,
            "checkpointing": plan.checkpointing,
            "threads": plan.threads,
            "batch_size": plan.batch_size,
            "learning_rate": plan.learning_rate,
            "rank": plan.rank,
            "alpha": plan.alpha,
            "targets": list(plan.targets),
            "minutes": plan.minutes,
            "seed": self._settings.seed,
            "diverged": loop.diverged,
        }
        self._log.write("end", **{k: v for k, v in about.items() if k != "history"})
        start = self._start
        if start is not None and state.best_step == 0 and all(p.rank == plan.rank for p in start.modules.values()):
            modules: Mapping[str, Any] = start.modules  # the very numbers that were given
        else:
            modules = pairs_of(loop.parameters, self._settings)
        if start is None:
            return Adapter(modules, *self._said, report={"refinement": about})
        return replace(start, modules=modules, report=start.report | {"refinement": about})

    def forget(self) -> None:
        """Remove the checkpoints: the result is safe."""
        if self._store is not None:
            self._store.clear()


@contextmanager
def prepare(
    parts: Parts,
    base: str | os.PathLike[str] | Base,
    settings: RefineSettings,
    *,
    start: Adapter | None = None,
    revision: str | None = None,
    said: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    log: str | os.PathLike[str] | None = None,
    progress: Callable[[str], object] | None = None,
) -> Iterator[Job]:
    """Load what a training needs, choose how it is done, and measure what it takes.

    Parameters
    ----------
    parts : Parts
        Training and validation rows.
    base : path, Hub id or Base
        A :class:`Base` keeps the precision that it has.
    settings : RefineSettings
    start : Adapter, optional
        None: from scratch, with the same A for the same seed and targets whatever the rows.
    revision : str, optional
        Of a base on the Hub.
    said : str, optional
        What the new adapter calls its base; by default `base`.
    checkpoint : path, optional
        Folder for the state of the run, and where to look for one to go on with.
    fresh : bool
        Forget a run that is there.
    log : path, optional
        File of JSON lines.
    progress : callable, optional
        Called with what is done next.

    Yields
    ------
    Job
        Its ``plan`` tells what will be done; the base is in memory until the context ends.

    Raises
    ------
    DataError, UsageError, BankError, MissingExtraError
        Rows, settings, base or adapter cannot be used.
    LorametaError
        It has no place in memory or no time; the message says what would.
    """
    import psutil
    import torch

    say = progress or (lambda doing: None)
    say("looking at the base")
    name = base.name if isinstance(base, Base) else os.fspath(base)
    revision = base.revision if isinstance(base, Base) else revision
    config = base.model.config if isinstance(base, Base) else find_config(name, revision)
    rank = settings.rank or (start.rank if start is not None else 8)
    targets = settings.targets or ((ALL_LINEAR,) if start is None else tuple(start.modules))
    hyper = settings.training(rank=rank, rows=len(parts.train), targets=targets)
    if start is not None:
        check_start(start, linear_shapes(meta_model(config, "float32")), hyper.targets, name)
    shape = outline(config, name, revision, hyper.targets, rank)

    tokenizer = base.tokenizer if isinstance(base, Base) else load_tokenizer(name, revision)
    limit = min(getattr(config, "max_position_embeddings", None) or hyper.max_length, hyper.max_length)
    train, shortened = encode_rows(tokenizer, parts.train, "training", limit)
    held_out, more = encode_rows(tokenizer, parts.validation, "validation", limit)
    longest = max(len(row.ids) for row in (*train, *held_out))
    piece = max(piece_tokens(shape.parameters), longest)
    if settings.micro_batch_size is not None:
        piece = settings.micro_batch_size * longest
    machine = look()
    chosen = any(os.environ.get(name) for name in THREAD_VARIABLES)  # by whoever knows what else the machine does
    threads = settings.threads or (machine.threads if chosen else machine.right_threads)
    logger = Log(log)
    with ExitStack() as stack:
        stack.callback(logger.close)
        store, known = None, None
        if checkpoint is not None:
            key = _key(parts, name, revision, settings, start)
            store = Store(Path(checkpoint).expanduser(), key)
            if fresh:
                store.clear()
            stack.enter_context(store.alone())
            known = store.plan()
        stack.enter_context(_threads(threads if known is None else known.threads))
        begun = time.perf_counter()
        if known is not None:
            loaded = base if isinstance(base, Base) else load_base(name, revision, known.precision)
            plan = known
        else:
            loaded, precision, why = _load(
                base, name, revision, settings, shape, hyper, train, piece, machine.bfloat16, say
            )
            plan = None
            begun = time.perf_counter()
        stack.enter_context(without_cache(loaded.model))
        model = stack.enter_context(lora_on(loaded, hyper))
        if start is not None:
            parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
            lay_on(parameters, cut(start, rank), hyper.alpha / hyper.rank)
        if plan is None:
            say("measuring two steps")
            pad = loaded.tokenizer.pad_token_id
            model.train()
            kept = kept_bytes(model, min(train, key=lambda row: len(row.ids)), pad)
            now = psutil.Process().memory_info().rss
            free = room.available()
            piece, checkpointing, needed = _fitting(settings, hyper, shape, precision, train, piece, kept, now, free)
            if checkpointing:
                stack.enter_context(checkpointed(loaded.model))
            usual, most = _usual_piece(train, hyper, piece), _largest_piece(train, hyper, piece)
            pace = measure(model, train, hyper, pad, usual, most, tokens=piece)
            plan = _plan(
                settings, hyper, shape, start, parts, train, held_out, shortened + more, longest, piece, pace,
                precision, why, checkpointing, threads, max(pace.memory, needed), now + free,
            )  # fmt: skip
        elif plan.checkpointing:
            stack.enter_context(checkpointed(loaded.model))
        if known is not None and store is not None and (found := store.load()) is not None:
            plan = replace(plan, resumed_at=found[0].step)
        torch.manual_seed(hyper.seed)
        yield Job(
            plan, model, loaded, (said or name, revision), (train, held_out[: plan.held_out]), hyper, settings, start,
            store, time.perf_counter() - begun if known is None else 0.0, logger,
        )  # fmt: skip


def _load(
    base: str | os.PathLike[str] | Base, name: str, revision: str | None, settings: RefineSettings, shape: Outline,
    hyper: LoraTraining, train: Sequence[EncodedExample], tokens: int, bfloat16: str, say: Callable[[str], object],
) -> tuple[Base, str, str]:  # fmt: skip
    """The base in memory, its precision, and why that one."""
    import psutil

    if isinstance(base, Base):
        return base, str(next(base.model.parameters()).dtype).removeprefix("torch."), "as it was given"
    runtime = psutil.Process().memory_info().rss
    least = max(len(row.ids) for row in train)
    choice = room.choose(shape, settings, least, runtime, room.available(), bfloat16)
    say("loading the base")
    loaded = load_base(name, revision, choice.precision)
    if not choice.compare:
        return loaded, choice.precision, choice.why
    say("comparing precisions")
    usual = [train[i] for i in _usual_piece(train, hyper, tokens)]
    seconds = quicker(loaded, usual, hyper, tokens)
    other = "float32" if choice.precision == "bfloat16" else "bfloat16"
    faster = seconds[choice.precision] / seconds[other]
    if faster < MARGIN:
        said = f"a piece of a step takes {seconds[other] / seconds[choice.precision]:.2f} times as long in {other}"
        return loaded, choice.precision, said
    cast(loaded.model, other)
    return loaded, other, f"a piece of a step takes {faster:.2f} times as long in {choice.precision}"


def _largest_piece(train: Sequence[EncodedExample], hyper: LoraTraining, tokens: int) -> list[int]:
    """The rows that need the most memory at once."""
    lengths = [len(row.ids) for row in train]
    order = sorted(range(len(train)), key=lambda i: -lengths[i])[: hyper.batch_size]
    found = pieces(lengths, order, rows=hyper.micro_batch_size, tokens=tokens)
    return max(found, key=lambda piece: len(piece) * lengths[piece[0]])


def _usual_piece(train: Sequence[EncodedExample], hyper: LoraTraining, tokens: int) -> list[int]:
    """Rows of median length that go through the model at once."""
    lengths = [len(row.ids) for row in train]
    order = sorted(range(len(train)), key=lambda i: lengths[i])
    size = min(hyper.batch_size, len(train))
    middle = max(0, min(len(order) - size, len(order) // 2 - size // 2))
    return next(pieces(lengths, order[middle : middle + size], rows=hyper.micro_batch_size, tokens=tokens))


def _fitting(
    settings: RefineSettings, hyper: LoraTraining, shape: Outline, dtype: str, train: Sequence[EncodedExample],
    piece: int, kept: float, now: int, free: int,
) -> tuple[int, bool, int]:  # fmt: skip
    """Tokens of a piece, whether layers must be computed twice, and the bytes that the process then needs.

    Smaller pieces come before computing twice: they cost hardly any time.
    """
    longest = max(len(row.ids) for row in train)
    sizes = [piece]
    while settings.micro_batch_size is None and sizes[-1] > longest:
        sizes.append(max(longest, sizes[-1] // 2))
    ways = [settings.checkpointing] if settings.checkpointing is not None else [False, True]
    adapter = TRAINED_BYTES * shape.adapter_parameters
    for twice in ways:
        for size in sizes:
            most = _largest_piece(train, hyper, size)
            tokens = len(most) * max(len(train[i].ids) for i in most)
            logits = LOGIT_BYTES * shape.vocabulary * sum(answers(train[i]) for i in most)
            layer = kept * tokens / shape.layers
            between = shape.layers * tokens * shape.width * ITEMSIZE[dtype]
            needed = round((between + 2 * layer if twice else kept * tokens + layer / 2) + logits + adapter)
            if needed <= ROOM * free:
                return size, twice, now + needed
    room.refuse(shape, settings, longest, now, free)


def _plan(
    settings: RefineSettings, hyper: LoraTraining, shape: Outline, start: Adapter | None, parts: Parts,
    train: Sequence[EncodedExample], held_out: Sequence[EncodedExample], shortened: int, longest: int, piece: int,
    pace: Pace, precision: str, why: str, checkpointing: bool, threads: int, memory: int, available: int,
) -> Plan:  # fmt: skip
    tokens = sum(len(row.ids) for row in train)
    epoch = math.ceil(len(train) / hyper.batch_size)
    step_tokens = tokens / epoch
    steps = settings.steps_of(epoch)
    least = min(len(held_out), HELD_OUT[0])
    few = pace.token * sum(len(row.ids) for row in held_out[:least]) / 2
    expected = steps
    if settings.minutes is not None:
        refuse_time(settings.minutes, pace.token * step_tokens, few)
        possible = max(1, steps_in(60 * settings.minutes, step_tokens, pace.token, few))
        expected = possible if steps is None else min(steps, possible)
    assert expected is not None  # steps_of gives some where there is no time budget
    count, evaluations = held_out_for(held_out, round(expected * step_tokens), least, settings.evaluations)
    held_tokens = sum(len(row.ids) for row in held_out[:count])
    seconds = training_seconds(expected, step_tokens, held_tokens, evaluations, pace.token)
    if settings.minutes is not None:
        seconds = min(seconds, 60 * settings.minutes)
    return Plan(
        start="scratch" if start is None else "adapter",
        rows=len(train),
        held_out=count,
        shortened=shortened,
        tokens=tokens,
        longest=longest,
        batch_size=hyper.batch_size,
        piece_tokens=piece,
        steps_an_epoch=epoch,
        steps=steps,
        expected_steps=expected,
        minutes=settings.minutes,
        evaluations=evaluations,
        learning_rate=hyper.rate(shape.width),
        rank=hyper.rank,
        alpha=hyper.alpha,
        targets=shape.targets,
        parameters=shape.adapter_parameters,
        precision=precision,
        why=why,
        checkpointing=checkpointing,
        threads=threads,
        memory=memory,
        available=available,
        token_seconds=pace.token,
        seconds=seconds,
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _key(parts: Parts, base: str, revision: str | None, settings: RefineSettings, start: Adapter | None) -> str:
    """What decides the result of a run, in one hash; how often it is saved, and with how many threads, does not."""
    beside = ("save_minutes", "save_steps", "threads")
    adapter = ""
    if start is not None:
        adapter = hashlib.sha256(tensors.to_bytes(peft_format.weight_arrays(start.modules))).hexdigest()
    content = {
        "engine": ENGINE,
        "rows": [[_rows(parts.train), _rows(parts.validation)]],
        "base": base_fingerprint(base, revision),
        "settings": {k: v for k, v in settings.as_dict().items() if k not in beside},
        "start": adapter,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _rows(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.input, example.output]).encode())
    return digest.hexdigest()
