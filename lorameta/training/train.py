"""`train_adapter`: one LoRA run on a CPU, of which the epoch with the lowest validation loss is kept."""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorameta.adapter import Adapter, LoraPair
from lorameta.adapter.peft_format import PREFIX
from lorameta.base_model.batch import EncodedExample, answer_losses, by_length, collate
from lorameta.base_model.load import Base
from lorameta.base_model.shape import ALL_LINEAR
from lorameta.base_model.shared_prefix import check_packing, packed_losses, packing
from lorameta.data import Example
from lorameta.data.split import Parts
from lorameta.errors import DataError, UsageError
from lorameta.training.rows import encode_rows
from lorameta.training.settings import LoraTraining

#: Raised whenever the same rows and settings would give other numbers: what was trained before is then trained anew.
ENGINE = 1
#: Steps whose mean loss tells that a run explodes.
WINDOW = 8
#: Short runs forget early gradients sooner than AdamW's default second moment (0.999) would.
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes
    ----------
    adapter : Adapter
        Of the best epoch, rounded to ``settings.dtype``; an update of zero if that is epoch 0.
    history : tuple of float
        Mean validation loss in nats a token before the first step and after each epoch; the last one is NaN or
        infinite if the run diverged so.
    best_epoch : int
        The index of the smallest finite value of `history`; the earliest of equals.
    steps : int
        Steps made.
    tokens : int
        Tokens of the training rows, prompts included: those of one epoch.
    losses : dict
        Part (``validation``, ``test``) → ``{"rows", "base", "adapter"}``: mean loss in nats a token without and with
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
    shortened = sum(long for _, long in rows.values())
    train, validation, test = (encoded for encoded, _ in rows.values())
    if not train or not validation:
        raise DataError("training needs rows to learn from and rows to choose the epoch by; one of the two is empty")
    tokens = sum(len(row.ids) for row in train)
    steps = settings.epochs * math.ceil(len(train) / settings.batch_size)
    rng = random.Random(settings.seed)
    diverged: str | None = None
    with ExitStack() as stack:
        model = stack.enter_context(lora_on(base, settings))
        if initial is not None:
            lay_a(model, initial)
        factors = {name: p for name, p in model.named_parameters() if ".lora_" in name}
        if settings.freeze_a:
            freeze_a(model)
        parameters = {name: p for name, p in factors.items() if p.requires_grad}
        if settings.share_prefix:
            stack.enter_context(packing(base.model))
            check_packing(model, base, validation[: settings.batch_size])
        start_loss = mean_loss(model, base, validation, settings)
        base_losses = {"validation": start_loss} | ({"test": mean_loss(model, base, test, settings)} if test else {})
        history, best = [start_loss], (0, _copy(parameters))
        watch = Watch(max(start_loss, math.log(model.config.vocab_size)))
        optimizer = torch.optim.AdamW(
            parameters.values(),
            lr=settings.rate(model.config.hidden_size),
            weight_decay=settings.weight_decay,
            betas=BETAS,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.factor(step, steps))
        step = done = 0
        for epoch in range(1, settings.epochs + 1):
            model.train()
            for batch in batches([len(row.ids) for row in train], settings.batch_size, rng):
                loss = _backward(model, base, [train[i] for i in batch], settings)
                norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.max_gradient_norm).item()
                step += 1
                if diverged := watch.trouble(step, loss, norm):
                    break
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                done += sum(len(train[i].ids) for i in batch)
                if progress is not None:
                    progress(done, settings.epochs * tokens)
            if diverged:
                break
            history.append(mean_loss(model, base, validation, settings))
            if not math.isfinite(history[-1]):
                diverged = f"step {step}: the validation loss is {history[-1]}"
                break
            if history[-1] < history[best[0]]:
                best = (epoch, _copy(parameters))
        dtype = getattr(torch, settings.dtype)
        with torch.no_grad():
            for name, value in {**factors, **best[1]}.items():
                factors[name].copy_(value.to(dtype))
        losses = {
            part: {"rows": len(found), "base": base_losses[part], "adapter": mean_loss(model, base, found, settings)}
            for part, found in (("validation", validation), ("test", test))
            if found
        }
        adapter = Adapter(pairs_of(factors, settings), base.name, base.revision)
    seconds = time.perf_counter() - begun
    return Trained(adapter, tuple(history), best[0], step, tokens, losses, shortened, seconds, diverged)


@contextmanager
def lora_on(base: Base, settings: LoraTraining) -> Iterator[Any]:
    """The base with fresh LoRA factors, A drawn from the seed alone and B zero; without them again afterwards."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)  # right before A is drawn, so that nothing else moves it
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        target_modules=ALL_LINEAR if settings.targets == (ALL_LINEAR,) else list(settings.targets),
        lora_dropout=settings.dropout,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's advice on models that were adapted before; they are clean
        try:
            model: Any = get_peft_model(base.model, config)
        except ValueError as error:
            raise UsageError(f"no adapter can be put on {base.name}: {error}") from error
    try:
        yield model
    finally:
        base.model = model.unload().eval()
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config


def lay_a(model: Any, initial: Mapping[str, np.ndarray]) -> None:
    """Put a given A into every LoRA module of a model; UsageError if one is missing or has another shape."""
    import torch

    with torch.no_grad():
        for name, p in model.named_parameters():
            module, _, half = name.removeprefix(PREFIX).partition(".lora_")
            if half[:1] != "A":
                continue
            found = initial.get(module)
            if found is None or found.shape != tuple(p.shape):
                what = "none" if found is None else f"one of shape {found.shape}"
                raise UsageError(f"the initial A of {module} must have the shape {tuple(p.shape)}; there is {what}")
            p.copy_(torch.from_numpy(np.ascontiguousarray(found)))


def freeze_a(model: Any) -> None:
    """Leave B alone to be trained."""
    for name, p in model.named_parameters():
        if ".lora_A." in name:
            p.requires_grad_(False)


def batches(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Indices in batches of similar length and in random order: shuffled, sorted within pools of eight, shuffled."""
    order = rng.sample(range(len(lengths)), len(lengths))
    pool = 8 * batch_size
    order = [i for p in range(0, len(order), pool) for i in sorted(order[p : p + pool], key=lambda i: lengths[i])]
    found = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    rng.shuffle(found)
    return found


def losses_of(model: Any, base: Base, rows: Sequence[EncodedExample], settings: LoraTraining) -> Any:
    """Loss of every answer token of some rows."""
    if settings.share_prefix:
        return packed_losses(model, rows)
    return answer_losses(model, *collate(rows, base.tokenizer.pad_token_id))


def mean_loss(model: Any, base: Base, rows: Sequence[EncodedExample], settings: LoraTraining) -> float:
    """Mean negative log-likelihood in nats of an answer token, end tokens included; the model is left evaluating."""
    import torch

    model.eval()
    size = 4 * (settings.micro_batch_size or settings.batch_size)  # no gradients are kept, so more rows fit
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in by_length([len(row.ids) for row in rows], size):
            found = losses_of(model, base, [rows[i] for i in batch], settings)
            total, count = total + found.double().sum().item(), count + found.numel()
    return total / count if count else math.nan


def _backward(model: Any, base: Base, batch: Sequence[EncodedExample], settings: LoraTraining) -> float:
    """Add the gradient of the batch's mean loss, some rows at a time; returns that loss."""
    count = sum(len(row.ids) - max(row.answer_start, 1) for row in batch)
    size = settings.micro_batch_size or len(batch)
    total = 0.0
    for start in range(0, len(batch), size):
        loss = losses_of(model, base, batch[start : start + size], settings).sum() / count
        loss.backward()
        total += loss.item()
    return total


@dataclass
class Watch:
    """Tells when a run has to be given up; `blind` is the loss of a model that knows nothing."""

    blind: float
    recent: list[float] = field(default_factory=list)

    def trouble(self, step: int, loss: float, norm: float) -> str | None:
        """What is wrong at a step of this loss and length of the gradient; None if nothing is."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss is {loss}" if not math.isfinite(loss) else f"length of the gradient is {norm}"
            return f"step {step}: the {what}"
        self.recent = [*self.recent, loss][-WINDOW:]
        mean = sum(self.recent) / len(self.recent)
        if len(self.recent) == WINDOW and mean > 2 * self.blind:
            return f"step {step}: the mean loss of {WINDOW} steps is {mean:.1f}, guessing blindly has {self.blind:.1f}"
        return None


def _encode(
    base: Base, examples: Sequence[Example], part: str, settings: LoraTraining
) -> tuple[list[EncodedExample], int]:
    """The rows of a part, and how many of them were shortened."""
    limit = getattr(base.model.config, "max_position_embeddings", None) or settings.max_length
    return encode_rows(base.tokenizer, examples, part, min(limit, settings.max_length))


def _copy(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: p.detach().clone() for name, p in parameters.items()}


def pairs_of(parameters: dict[str, Any], settings: LoraTraining) -> dict[str, LoraPair]:
    """The factors by module, as they stand in the model."""
    found: dict[str, dict[str, Any]] = {}
    for name, p in parameters.items():
        module, _, half = name.removeprefix(PREFIX).partition(".lora_")
        found.setdefault(module, {})[half[0]] = p.detach().float().numpy().copy()
    scaling = settings.alpha / settings.rank
    return {module: LoraPair(pair["A"], pair["B"], scaling) for module, pair in found.items()}
