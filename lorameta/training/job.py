"""`prepare`: everything up to the first step of a training, ending in a plan; `PreparedTraining.run`: the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lorameta.adapter import Adapter
from lorameta.adapter.lora import LoraPair
from lorameta.base_model import ALL_LINEAR
from lorameta.base_model.batch import EncodedExample, positions_of
from lorameta.base_model.config import find_config
from lorameta.base_model.load import Base, load_base, load_tokenizer
from lorameta.base_model.shape import chosen_paths, linear_shapes, meta_model, outline
from lorameta.data.split import Parts
from lorameta.files.links import user_path
from lorameta.machine.machine import THREAD_VARIABLES, look
from lorameta.machine.memory import ITEMSIZE
from lorameta.training import choose, memory_plan
from lorameta.training.adapted import lora_on, pairs_of
from lorameta.training.checkpoint import CheckpointFolder, key_of
from lorameta.training.loop import Hooks, Loop
from lorameta.training.measure import checkpointed, kept_bytes, measure, peak_memory, torch_threads, without_cache
from lorameta.training.options import RefineSettings
from lorameta.training.plan import USABLE, TrainingPlan
from lorameta.training.prefix import Prefix, frozen_layers, in_top_layers
from lorameta.training.progress import Log, TrainingProgress
from lorameta.training.rows import encode_rows, micro_batch_tokens
from lorameta.training.settings import LoraTraining
from lorameta.training.start import begin_with, check_start


@dataclass
class PreparedTraining:
    """A training that is ready to begin.

    Attributes
    ----------
    plan : TrainingPlan
    rows : (sequence, sequence) of EncodedExample
        That are trained on, and that are held out.
    spent : float
        Seconds of the budget that were used for measuring.
    frozen : mapping of str to LoraPair
        Modules of the start that are not trained and stay.
    prompt : dict
        For the adapter's report: ``prompt``, what the rows share (:meth:`lorameta.data.PromptTemplate.as_dict`), and
        ``prompt_template``, what stands around that.
    """

    plan: TrainingPlan
    _model: Any
    _base: Base
    _said: tuple[str, str | None]
    rows: tuple[Sequence[EncodedExample], Sequence[EncodedExample]]
    _settings: LoraTraining
    _options: RefineSettings
    _start: Adapter | None
    _store: CheckpointFolder | None
    spent: float
    frozen: Mapping[str, LoraPair] = field(default_factory=dict)
    _prefix: Prefix | None = None
    _log: Log = field(default_factory=lambda: Log(None))
    prompt: dict[str, Any] = field(default_factory=dict)

    def run(
        self,
        *,
        report: Callable[[TrainingProgress], object] | None = None,
        observe: Callable[[int, float, Mapping[str, Any]], object] | None = None,
    ) -> Adapter:
        """Train, and return the best state that the held-out rows saw; a start that was given is one of them.

        Parameters
        ----------
        report, observe : callable, optional
            See :class:`lorameta.training.loop.Hooks`.

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
        pad = self._base.tokenizer.pad_token_id
        loop = Loop(self._model, *self.rows, plan, self._settings, pad, hooks, self._prefix)
        with peak_memory() as peak:
            loop.run(self.spent)
            largest = peak()
        with torch.no_grad():
            for name, value in loop.engine.best.items():
                loop.engine.parameters[name].copy_(value)
        state = loop.state
        losses = dict(state.history)
        about = {
            "start": "mixture" if self._start is not None and self._start.weights else plan.start,
            "steps": state.step,
            "best_step": state.best_step,
            "loss_at_start": state.history[0][1],
            "loss": losses[state.best_step],
            "history": [[step, round(loss, 5)] for step, loss in state.history],
            **plan.facts("rows held_out shortened"),
            "tokens": state.tokens,
            "seconds": round(state.elapsed, 3),
            "tokens_per_second": round(state.tokens / state.elapsed, 1) if state.elapsed else None,
            "peak_memory_mb": round(largest / 1e6),
            **plan.facts(
                "precision checkpointing threads batch_size learning_rate rank alpha targets top_layers minutes"
            ),
            "seed": self._settings.seed,
            "diverged": loop.engine.diverged,
        }
        self._log.write("end", **{k: v for k, v in about.items() if k != "history"})
        start = self._start
        if start is not None and state.best_step == 0 and all(p.rank == plan.rank for p in start.modules.values()):
            modules: Mapping[str, Any] = start.modules  # the very numbers that were given
        else:
            modules = {**self.frozen, **pairs_of(loop.engine.parameters, self._settings)}
        if start is None:
            return Adapter(modules, *self._said, report={**self.prompt, "refinement": about})
        return replace(start, modules=modules, report=start.report | self.prompt | {"refinement": about})

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
) -> Iterator[PreparedTraining]:
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

    Yields
    ------
    PreparedTraining
        Its ``plan`` tells what will be done; the base is in memory until the context ends.

    Raises
    ------
    DataError, UsageError, BankError, MissingExtraError
        Rows, settings, base or adapter cannot be used.
    LorametaError
        It does not fit in memory or in the time; the message says what would.
    """
    import psutil

    name = base.name if isinstance(base, Base) else os.fspath(base)
    revision = base.revision if isinstance(base, Base) else revision
    config = base.model.config if isinstance(base, Base) else find_config(name, revision)
    rank = settings.rank or (start.rank if start is not None else 8)
    targets = settings.targets or ((ALL_LINEAR,) if start is None else tuple(start.modules))
    hyper = settings.training(rank=rank, rows=len(parts.train), targets=targets)
    if start is not None:
        check_start(start, linear_shapes(meta_model(config, "float32"), head=True), hyper.targets, name)
    trained = hyper.targets
    if settings.top_layers is not None:
        meta = meta_model(config, "float32")
        paths = chosen_paths(linear_shapes(meta, head=True), hyper.targets, name)
        trained = tuple(in_top_layers(meta, paths, settings.top_layers, name))
        hyper = replace(hyper, targets=tuple({*trained, *(() if start is None else start.modules)}))
    shape = outline(config, name, revision, trained, rank)

    tokenizer = base.tokenizer if isinstance(base, Base) else load_tokenizer(name, revision)
    limit = min(positions_of(config) or hyper.max_length, hyper.max_length)
    train, shortened = encode_rows(tokenizer, parts.train, "training", limit)
    held_out, more = encode_rows(tokenizer, parts.validation, "validation", limit)
    longest = max(len(row.ids) for row in (*train, *held_out))
    most_tokens = max(micro_batch_tokens(shape.parameters), longest)
    if settings.micro_batch_size is not None:
        most_tokens = settings.micro_batch_size * longest
    machine = look()
    chosen = any(os.environ.get(name) for name in THREAD_VARIABLES)  # by whoever knows what else the machine does
    threads = settings.threads or (machine.threads if chosen else machine.right_threads)
    logger = Log(log)
    with ExitStack() as stack:
        stack.callback(logger.close)
        store, known = None, None
        if checkpoint is not None:
            key = key_of(parts, name, revision, settings, start)
            store = CheckpointFolder(user_path(checkpoint), key)
            if fresh:
                store.clear()
            stack.enter_context(
                store.alone(f"another process is at work on the same output; its state is in {store.folder}")
            )
            known = store.plan()
        stack.enter_context(torch_threads(threads if known is None else known.threads))
        begun = time.perf_counter()
        if known is not None:
            loaded = base if isinstance(base, Base) else load_base(name, revision, known.precision)
            plan = known
        else:
            loaded, precision, why = choose.load(
                base, name, revision, settings, shape, hyper, train, most_tokens, machine.bfloat16
            )
            plan = None
            begun = time.perf_counter()
        stack.enter_context(without_cache(loaded.model))
        model = stack.enter_context(lora_on(loaded, hyper))
        still: dict[str, LoraPair] = {}
        if start is not None:
            only = None if settings.top_layers is None else trained
            still = begin_with(model, start, rank, hyper.alpha / hyper.rank, only)
        frozen = frozen_layers(model)
        prefix = Prefix(model, frozen) if frozen else None
        if plan is None:
            pad = loaded.tokenizer.pad_token_id
            model.train()
            shortest = min(train, key=lambda row: len(row.ids))
            kept = kept_bytes(model, shortest, pad, frozen)
            now = psutil.Process().memory_info().rss
            free = memory_plan.available()
            most_tokens, checkpointing, needed = choose.fitting(
                settings, hyper, shape, precision, train, most_tokens, kept, now, free, frozen
            )
            if checkpointing:
                stack.enter_context(checkpointed(loaded.model))
            if prefix is not None:
                states = shape.width * ITEMSIZE[precision] * sum(len(row.ids) for row in (*train, *held_out))
                if needed + states > now + USABLE * free or not prefix.agrees(shortest, pad):
                    prefix = None
                else:
                    needed += states
                    stack.enter_context(prefix.mounted())
            usual, most = (
                choose.usual_micro_batch(train, hyper, most_tokens),
                choose.largest_micro_batch(train, hyper, most_tokens),
            )
            pace = measure(model, train, hyper, pad, usual, most, tokens=most_tokens, prefix=prefix)
            plan = choose.planned(
                settings, hyper, shape, train, held_out, pace, frozen, start="scratch" if start is None else "adapter",
                shortened=shortened + more, longest=longest, micro_batch_tokens=most_tokens, precision=precision,
                why=why, checkpointing=checkpointing, threads=threads, memory=max(pace.memory, needed),
                available=now + free, kept_layers=0 if prefix is None else frozen,
            )  # fmt: skip
        else:
            if plan.checkpointing:
                stack.enter_context(checkpointed(loaded.model))
            prefix = prefix if plan.kept_layers else None
            if prefix is not None:
                stack.enter_context(prefix.mounted())
        if known is not None and store is not None and (found := store.load()) is not None:
            plan = replace(plan, resumed_at=found[0].step)
        yield PreparedTraining(
            plan=plan, rows=(train, held_out[: plan.held_out]), frozen=still,
            spent=time.perf_counter() - begun if known is None else 0.0,
            _model=model, _base=loaded, _said=(said or name, revision), _settings=hyper, _options=settings,
            _start=start, _store=store, _prefix=prefix, _log=logger,
        )  # fmt: skip
