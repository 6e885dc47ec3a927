"""`train_adapter`: one LoRA run on a CPU, of which the epoch with the lowest validation loss is kept."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from lorameta.adapter import Adapter
from lorameta.base_model.batch import EncodedExample, by_length, positions_of
from lorameta.base_model.load import Base
from lorameta.base_model.shared_prefix import check_packing, packing
from lorameta.data import Example
from lorameta.data.split import Parts
from lorameta.errors import DataError, UsageError
from lorameta.training.adapted import freeze_a, lora_on, pairs_of, set_a
from lorameta.training.engine import Engine, losses_of, mean_loss
from lorameta.training.rows import batches, encode_rows
from lorameta.training.settings import LoraTraining

#: Raised whenever the same rows and settings would give other numbers: what was trained before is then trained again.
ENGINE = 1


@dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes
    ----------
    adapter : Adapter
        Of the best epoch, rounded to ``settings.dtype``; an update of zero if that is epoch 0.
    history : tuple of float
        Mean validation loss in nats per token before the first step and after each epoch; the last one is NaN or
        infinite if the run diverged so.
    best_epoch : int
        The index of the smallest finite value of `history`; the earliest of equals.
    steps : int
        Steps made.
    tokens : int
        Tokens of the training rows, prompts included: those of one epoch.
    losses : dict
        Part (``validation``, ``test``) → ``{"rows", "base", "adapter"}``: mean loss in nats per token without and with
        the adapter as it is returned.
    shortened : int
        Rows that were longer than ``settings.max_length``.
    seconds : float
        Wall time, loading of the base not included.
    diverged : str or None
        At which step the run was given up, and why.
    """

    adapter: Adapter
    history: tuple[float, ...]
    best_epoch: int
    steps: int
    tokens: int
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    shortened: int = 0
    seconds: float = 0.0
    diverged: str | None = None


def train_adapter(
    parts: Parts,
    base: Base,
    settings: LoraTraining,
    *,
    initial: Mapping[str, np.ndarray] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Trained:
    """Train a LoRA adapter with the loss on the answers only.

    AdamW, a linear rise and a cosine fall of the rate, clipped gradients, batches of similar length. After each epoch
    the loss on the validation rows is measured, and the best epoch wins, the start (epoch 0) included: what is
    returned is never worse on them than the base. Test rows are only measured. The run is given up when a loss or
    gradient is not finite, or when the mean loss of eight steps is more than twice that of guessing a token blindly
    (or of the base, if that is larger).

    Every run of one seed starts from the same A, whatever its rows: adapters that are to be mixed should, because
    the cross terms of averaged factors, (Σ wᵢ Bᵢ)(Σ wᵢ Aᵢ), vanish only as far as the A agree, and because shared
    directions keep the rank of a mixture low. The same rows, settings and number of threads give the same numbers.

    Parameters
    ----------
    parts : Parts
        From :func:`lorameta.data.split.split_examples`, or chosen otherwise; `train` and `validation` not empty.
    base : Base
        From :func:`lorameta.base_model.load.load_base`; as it was, afterwards.
    settings : LoraTraining
    initial : mapping of str to numpy.ndarray of shape (r, d_in), optional
        A of every module to start from, as :func:`lorameta.training.principal.principal_a` makes them. By default A is
        drawn from ``settings.seed``.
    progress : callable, optional
        Called with the number of tokens trained on so far and that of the whole run, after each step.

    Returns
    -------
    Trained

    Raises
    ------
    DataError
        A part is empty, or a row has no answer.
    UsageError
        PEFT finds none of the targets in the base.
    """
    import torch

    begun = time.perf_counter()
    if initial is None and settings.init_a != "random":
        raise UsageError(f"init_a is {settings.init_a!r}, but no initial A was given")
    parts = settings.rows_of(parts)
    rows = {name: _encode(base, getattr(parts, name), name, settings) for name in ("train", "validation", "test")}
    train, validation, test = (encoded for encoded, _ in rows.values())
    if not train or not validation:
        raise DataError("training needs rows to learn from and rows to choose the epoch by; one of the two is empty")
    tokens = sum(len(row.ids) for row in train)
    steps = settings.epochs * math.ceil(len(train) / settings.batch_size)
    rng = random.Random(settings.seed)
    done = 0
    with ExitStack() as stack:
        model = stack.enter_context(lora_on(base, settings))
        if initial is not None:
            set_a(model, initial)
        factors = {name: p for name, p in model.named_parameters() if ".lora_" in name}
        if settings.freeze_a:
            freeze_a(model)
        if settings.share_prefix:
            stack.enter_context(packing(base.model))
            check_packing(model, base, validation[: settings.batch_size])
        losses = losses_of(model, base.tokenizer.pad_token_id, packed=settings.share_prefix)
        engine = Engine(model, losses, settings, fused=False)
        size = settings.micro_batch_size or settings.batch_size
        held_out = {part: list(of_like_length(found, 4 * size)) for part, (found, _) in rows.items() if part != "train"}
        before = {"validation": engine.measure(held_out["validation"])}
        before |= {"test": mean_loss(model, losses, held_out["test"])} if test else {}
        rate = settings.rate(model.config.hidden_size)
        for _ in range(settings.epochs):
            for batch in batches([len(row.ids) for row in train], settings.batch_size, rng):
                micro_batches = (batch[start : start + size] for start in range(0, len(batch), size))
                engine.train(
                    ([train[i] for i in micro_batch] for micro_batch in micro_batches),
                    rate * settings.factor(engine.step, steps),
                )
                if engine.diverged:
                    break
                done += sum(len(train[i].ids) for i in batch)
                if progress is not None:
                    progress(done, settings.epochs * tokens)
            if not engine.diverged:
                engine.measure(held_out["validation"])
            if engine.diverged:
                break
        dtype = getattr(torch, settings.dtype)
        with torch.no_grad():
            for name, value in {**factors, **engine.best}.items():
                factors[name].copy_(value.to(dtype))
        after = {part: mean_loss(model, losses, held_out[part]) for part in before}
        adapter = Adapter(pairs_of(factors, settings), base.name, base.revision)
    return Trained(
        adapter,
        history=tuple(loss for _, loss in engine.history),
        best_epoch=[step for step, _ in engine.history].index(engine.best_step),
        steps=engine.step,
        tokens=tokens,
        losses={part: {"rows": len(rows[part][0]), "base": before[part], "adapter": after[part]} for part in before},
        shortened=sum(long for _, long in rows.values()),
        seconds=time.perf_counter() - begun,
        diverged=engine.diverged,
    )


def of_like_length(rows: Sequence[EncodedExample], size: int) -> Iterator[list[EncodedExample]]:
    """Yield rows in batches of `size`, the longest first."""
    for batch in by_length([len(row.ids) for row in rows], size):
        yield [rows[i] for i in batch]


def _encode(
    base: Base, examples: Sequence[Example], part: str, settings: LoraTraining
) -> tuple[list[EncodedExample], int]:
    """Return the rows of a part, and how many of them were shortened."""
    limit = positions_of(base.model.config) or settings.max_length
    return encode_rows(base.tokenizer, examples, part, min(limit, settings.max_length))
