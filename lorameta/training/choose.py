"""How a training is done on this machine: precision, rows at once, layers computed twice or not; the plan of it all."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from lorameta.base_model.batch import EncodedExample
from lorameta.base_model.load import Base, cast, load_base, precision
from lorameta.base_model.shape import Outline
from lorameta.machine.memory import ITEMSIZE, TRAINED_BYTES
from lorameta.machine.speed import LOGIT_BYTES
from lorameta.training import memory_plan
from lorameta.training.engine import answers
from lorameta.training.measure import MARGIN, Pace, quicker
from lorameta.training.options import RefineSettings
from lorameta.training.plan import USABLE, TrainingPlan, held_out_for, refuse_time, steps_in, training_seconds
from lorameta.training.rows import HELD_OUT, micro_batches
from lorameta.training.settings import LoraTraining


def load(
    base: str | os.PathLike[str] | Base, name: str, revision: str | None, settings: RefineSettings, shape: Outline,
    hyper: LoraTraining, train: Sequence[EncodedExample], tokens: int, bfloat16: str,
) -> tuple[Base, str, str]:  # fmt: skip
    """Return the base in memory, its precision, and why that one."""
    import psutil

    if isinstance(base, Base):
        return base, precision(base.model), "as it was given"
    runtime = psutil.Process().memory_info().rss
    least = max(len(row.ids) for row in train)
    choice = memory_plan.choose(shape, settings, least, runtime, memory_plan.available(), bfloat16)
    loaded = load_base(name, revision, choice.precision)
    if not choice.compare:
        return loaded, choice.precision, choice.why
    usual = [train[i] for i in usual_micro_batch(train, hyper, tokens)]
    seconds = quicker(loaded, usual, hyper, tokens)
    other = "float32" if choice.precision == "bfloat16" else "bfloat16"
    faster = seconds[choice.precision] / seconds[other]
    if faster < MARGIN:
        said = f"a micro-batch takes {seconds[other] / seconds[choice.precision]:.2f} times as long in {other}"
        return loaded, choice.precision, said
    cast(loaded.model, other)
    return loaded, other, f"a micro-batch takes {faster:.2f} times as long in {choice.precision}"


def largest_micro_batch(train: Sequence[EncodedExample], hyper: LoraTraining, tokens: int) -> list[int]:
    """Return the rows that need the most memory at once."""
    lengths = [len(row.ids) for row in train]
    order = sorted(range(len(train)), key=lambda i: -lengths[i])[: hyper.batch_size]
    found = micro_batches(lengths, order, rows=hyper.micro_batch_size, tokens=tokens)
    return max(found, key=lambda micro_batch: len(micro_batch) * lengths[micro_batch[0]])


def usual_micro_batch(train: Sequence[EncodedExample], hyper: LoraTraining, tokens: int) -> list[int]:
    """Return the rows of median length that go through the model at once."""
    lengths = [len(row.ids) for row in train]
    order = sorted(range(len(train)), key=lambda i: lengths[i])
    size = min(hyper.batch_size, len(train))
    middle = max(0, min(len(order) - size, len(order) // 2 - size // 2))
    return next(micro_batches(lengths, order[middle : middle + size], rows=hyper.micro_batch_size, tokens=tokens))


def fitting(
    settings: RefineSettings, hyper: LoraTraining, shape: Outline, dtype: str, train: Sequence[EncodedExample],
    most_tokens: int, kept: float, now: int, free: int, frozen: int = 0,
) -> tuple[int, bool, int]:  # fmt: skip
    """Return the tokens of a micro-batch, whether layers must be computed twice, and the bytes that the process then
    needs.

    Smaller micro-batches come before computing twice: they cost hardly any time.
    """
    longest = max(len(row.ids) for row in train)
    sizes = [most_tokens]
    while settings.micro_batch_size is None and sizes[-1] > longest:
        sizes.append(max(longest, sizes[-1] // 2))
    ways = [settings.checkpointing] if settings.checkpointing is not None else [False, True]
    deep = shape.layers - frozen
    adapter = TRAINED_BYTES * shape.adapter_parameters
    for twice in ways:
        for size in sizes:
            most = largest_micro_batch(train, hyper, size)
            tokens = len(most) * max(len(train[i].ids) for i in most)
            logits = LOGIT_BYTES * shape.vocabulary * sum(answers(train[i]) for i in most)
            layer = kept * tokens / deep
            between = deep * tokens * shape.width * ITEMSIZE[dtype]
            needed = round((between + 2 * layer if twice else kept * tokens + layer / 2) + logits + adapter)
            if needed <= USABLE * free:
                return size, twice, now + needed
    memory_plan.refuse(shape, settings, longest, now, free)


def planned(
    settings: RefineSettings, hyper: LoraTraining, shape: Outline, train: Sequence[EncodedExample],
    held_out: Sequence[EncodedExample], pace: Pace, frozen: int, **known: Any,
) -> TrainingPlan:  # fmt: skip
    """Return the plan, with the steps and the time that follow from the pace; `known` are other fields of it."""
    tokens = sum(len(row.ids) for row in train)
    epoch = math.ceil(len(train) / hyper.batch_size)
    step_tokens = tokens / epoch
    steps = settings.steps_of(epoch)
    least = min(len(held_out), HELD_OUT[0])
    few_tokens = sum(len(row.ids) for row in held_out[:least])
    few = pace.token * few_tokens / 2
    once = pace.prefix * (few_tokens + tokens)
    expected = steps
    if settings.minutes is not None:
        refuse_time(settings.minutes, pace.token * step_tokens, few)
        possible = max(1, steps_in(max(0.0, 60 * settings.minutes - once), step_tokens, pace.token, few))
        expected = possible if steps is None else min(steps, possible)
    assert expected is not None  # steps_of gives some where there is no time budget
    count, evaluations = held_out_for(held_out, round(expected * step_tokens), least, settings.evaluations)
    held_tokens = sum(len(row.ids) for row in held_out[:count])
    seconds = training_seconds(expected, step_tokens, held_tokens, evaluations, pace.token)
    seconds += pace.prefix * (held_tokens + min(tokens, expected * step_tokens))
    if settings.minutes is not None:
        seconds = min(seconds, 60 * settings.minutes)
    return TrainingPlan(
        rows=len(train),
        held_out=count,
        tokens=tokens,
        batch_size=hyper.batch_size,
        steps_an_epoch=epoch,
        steps=steps,
        expected_steps=expected,
        minutes=settings.minutes,
        evaluations=evaluations,
        learning_rate=hyper.rate(shape.width),
        rank=hyper.rank,
        alpha=hyper.alpha,
        targets=shape.targets,
        layers=shape.layers,
        top_layers=shape.layers - frozen,
        parameters=shape.adapter_parameters,
        token_seconds=pace.token,
        seconds=seconds,
        **known,
    )
