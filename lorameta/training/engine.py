"""`Engine`: what every training here does: gradients, AdamW, the loss on held-out rows, and the best state kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorameta.base_model.batch import EncodedExample, answer_losses, collate
from lorameta.base_model.shared_prefix import packed_losses

if TYPE_CHECKING:
    from lorameta.training.prefix import Prefix
    from lorameta.training.settings import LoraTraining

#: Short runs forget early gradients sooner than AdamW's default second moment (0.999) would.
BETAS = (0.9, 0.98)
#: Steps whose mean loss tells that a run explodes.
WINDOW = 8

#: Rows -> the loss in nats of each of their answer tokens, as one flat tensor.
Losses = Callable[[Sequence[EncodedExample]], Any]
#: Rows that go through the model together, one after the other.
MicroBatches = Iterable[Sequence[EncodedExample]]


def losses_of(model: Any, pad: int, *, prefix: Prefix | None = None, packed: bool = False) -> Losses:
    """Return how the losses of rows are computed.

    Parameters
    ----------
    model : peft.PeftModel
    pad : int
        Id of the padding token.
    prefix : Prefix, optional
        Of frozen layers, mounted: their states come from memory.
    packed : bool
        Pass the tokens that all rows begin with once, see :mod:`lorameta.base_model.shared_prefix`.
    """

    def losses(rows: Sequence[EncodedExample]) -> Any:
        if packed:
            return packed_losses(model, rows)
        if prefix is not None:
            prefix.give(rows)
        return answer_losses(model, *collate(rows, pad))

    return losses


def answers(row: EncodedExample) -> int:
    """Return the number of tokens of a row that the loss is on."""
    return len(row.ids) - max(row.answer_start, 1)


def backward(losses: Losses, micro_batches: MicroBatches) -> float:
    """Add the gradient of the mean loss of an answer token in a batch; return that loss in nats."""
    batch = [list(micro_batch) for micro_batch in micro_batches]
    count = sum(answers(row) for micro_batch in batch for row in micro_batch)
    total = 0.0
    for micro_batch in batch:
        loss = losses(micro_batch).sum() / count
        loss.backward()
        total += loss.item()
    return total


def mean_loss(model: Any, losses: Losses, micro_batches: MicroBatches) -> float:
    """Return the mean loss in nats of an answer token, end tokens included; the model is left evaluating."""
    import torch

    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for micro_batch in micro_batches:
            found = losses(micro_batch)
            total, count = total + found.double().sum().item(), count + found.numel()
    return total / count if count else math.nan


def optimizer_of(parameters: Sequence[Any], rate: float, weight_decay: float, *, fused: bool = True) -> Any:
    """Return AdamW with the moments of :data:`BETAS`; `fused` is faster, and rounds in another way."""
    import torch

    return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay, betas=BETAS, fused=fused)


def clip(parameters: Sequence[Any], longest: float) -> float:
    """Shorten the gradient to `longest`; return its length before."""
    import torch

    return float(torch.nn.utils.clip_grad_norm_(parameters, longest))


@dataclass
class Watch:
    """Tells when a run has to be given up; `blind` is the loss of a model that knows nothing."""

    blind: float
    recent: list[float] = field(default_factory=list)

    def trouble(self, step: int, loss: float, norm: float) -> str | None:
        """Return what is wrong at a step of this loss and length of the gradient; None if nothing is."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss is {loss}" if not math.isfinite(loss) else f"length of the gradient is {norm}"
            return f"step {step}: the {what}"
        self.recent = [*self.recent, loss][-WINDOW:]
        mean = sum(self.recent) / len(self.recent)
        if len(self.recent) == WINDOW and mean > 2 * self.blind:
            return f"step {step}: the mean loss of {WINDOW} steps is {mean:.1f}, guessing blindly has {self.blind:.1f}"
        return None


class Engine:
    """The state of a training, and the two things that change it: a step, and a measurement of the held-out rows.

    Who uses it decides on the order of the rows, the learning rate of each step, and when to measure.

    Parameters
    ----------
    model : peft.PeftModel
        With the factors that it starts from; those that require a gradient are trained.
    losses : callable
        See :func:`losses_of`.
    settings : LoraTraining
        Its weight decay and longest gradient.
    fused : bool
        See :func:`optimizer_of`.

    Attributes
    ----------
    parameters : dict of str to torch.nn.Parameter
        That are trained.
    step : int
        Steps made.
    history : list of (int, float)
        Step and mean loss of the held-out rows, by measurement.
    best_step : int
        Of the smallest loss; the earliest of equals.
    best : dict of str to torch.Tensor
        The parameters after that step.
    diverged : str or None
        At which step the run has to be given up, and why.
    """

    def __init__(self, model: Any, losses: Losses, settings: LoraTraining, *, fused: bool = True) -> None:
        self.model, self.losses, self.settings = model, losses, settings
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = optimizer_of(list(self.parameters.values()), 0.0, settings.weight_decay, fused=fused)
        self.step, self.best_step = 0, 0
        self.history: list[tuple[int, float]] = []
        self.best: dict[str, Any] = {}
        self.watch = Watch(math.log(model.config.vocab_size))
        self.diverged: str | None = None

    def train(self, micro_batches: MicroBatches, rate: float) -> tuple[float, float]:
        """Make a step, unless the run `diverged`; return its loss and the length of its gradient."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = backward(self.losses, micro_batches)
        norm = clip(list(self.parameters.values()), self.settings.max_gradient_norm)
        self.diverged = self.watch.trouble(self.step + 1, loss, norm)
        if not self.diverged:
            self.optimizer.step()
            self.step += 1
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def measure(self, micro_batches: MicroBatches) -> float:
        """Measure the held-out rows and keep the state if it is the best so far; the start is one of the states."""
        loss = mean_loss(self.model, self.losses, micro_batches)
        if not self.history:
            self.watch = Watch(max(loss, self.watch.blind), self.watch.recent)
        elif not math.isfinite(loss):
            self.diverged = f"step {self.step}: the validation loss is {loss}"
        if not self.history or loss < dict(self.history)[self.best_step]:
            self.best_step = self.step
            self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.history.append((self.step, loss))
        return loss
