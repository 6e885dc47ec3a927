"""`RefineSettings`: what a refinement or a fine-tune may be told, checked when it is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lorameta.base_model.shape import ALL_LINEAR
from lorameta.errors import LorametaError, UsageError, violations
from lorameta.training.settings import LoraTraining

#: Passes over the rows where neither steps, nor minutes, nor epochs are given.
EPOCHS = 3
#: Rows a step where none are given: a pass over few rows still has some 20 steps.
BATCH_SIZES = (4, 8)
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class RefineSettings:
    """Settings of :func:`lorameta.training.refine` and :func:`lorameta.training.finetune`.

    The run ends with the first of `epochs`, `steps` and `minutes` that is given; without any of them after three
    epochs. The learning rate rises, then falls to 0 along a cosine over the steps, or, with `minutes`, over the time.

    Attributes
    ----------
    epochs, steps : int, optional
        Passes over the training rows; steps of AdamW.
    minutes : float, optional
        Wall time of the training, validation included, loading of the base not. Kept within one step.
    rank : int, optional
        By default that of the adapter, 8 from scratch. A smaller one cuts the adapter exactly (best approximation of
        its update), a larger one adds directions that start at zero.
    alpha : float, optional
        alpha / rank is the scaling in training; twice the rank by default.
    targets : tuple of str, optional
        Layers, by the last parts of their names, or ``("all-linear",)``. By default those of the adapter, all linear
        ones from scratch.
    top_layers : int, optional
        Adapt only so many of the uppermost layers. What the layers below them make of a row, an adapter that is refined
        included, is computed once and kept in memory, if there is room: a step then costs little more than its share of
        the layers.
    learning_rate : float, optional
        By default 5e-4 · (2000 / width)^0.781, see :meth:`lorameta.training.LoraTraining.rate`.
    batch_size : int, optional
        Rows a step; by default a sixteenth of the rows, at least 4 and at most 8. Larger batches
        cost a CPU as much for each row, and make fewer steps of them.
    micro_batch_size : int, optional
        Rows in memory at once; the gradient is that of the whole batch. By default as many of similar length as make
        4,096 tokens, 1,024 for bases beyond 100 million parameters and 512 beyond a billion.
    dropout, weight_decay, warmup_steps, max_gradient_norm, max_length, seed
        As in :class:`lorameta.training.LoraTraining`.
    precision : {"auto", "float32", "bfloat16"}
        Of the base and of what flows through it; the adapter is trained in float32 in any case. ``auto`` is bfloat16
        for bases beyond a billion parameters or where float32 has no place, if the processor has instructions for it
        and two steps of two layers take less time in it.
    checkpointing : bool, optional
        Compute each layer twice to save memory; by default only where memory demands it.
    validation_share : float
        Of the distinct rows, in (0, 0.5]: those that no step sees and the best state is chosen by.
    evaluations : int
        How often the held-out rows are measured at most, beside start and end.
    save_minutes : float
        Between two checkpoints.
    save_steps : int, optional
        A checkpoint every so many steps as well.
    threads : int, optional
        Of torch; by default what OMP_NUM_THREADS says, else one for each physical core that the process may use.

    Raises
    ------
    UsageError
        With every value that cannot work.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    top_layers: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    warmup_steps: int = 20
    max_gradient_norm: float = 1.0
    max_length: int = 1024
    seed: int = 0
    precision: str = "auto"
    checkpointing: bool | None = None
    validation_share: float = 0.1
    evaluations: int = 20
    save_minutes: float = 5.0
    save_steps: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.targets is not None:
            object.__setattr__(self, "targets", tuple(sorted(set(self.targets))))
        for name in ("epochs", "steps", "rank", "top_layers", "batch_size", "evaluations", "save_steps", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(f"{name} is {value}; it must be at least 1")
        for name in ("minutes", "save_minutes"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                problems.append(f"{name} is {value}; it must be a positive number")
        if self.precision not in PRECISIONS:
            problems.append(f"precision is {self.precision!r}; there are {', '.join(PRECISIONS)}")
        if not 0 < self.validation_share <= 0.5:
            problems.append(f"validation_share is {self.validation_share}; it must be in (0, 0.5]")
        try:
            self.training(rank=self.rank if self.rank is not None and self.rank > 0 else 8)
        except LorametaError as error:
            problems += [line.strip(" -") for line in str(error).splitlines()[1:] if line.strip()]
        if problems:
            raise UsageError(violations(problems, "the settings cannot work:"))

    def training(self, *, rank: int, rows: int | None = None, targets: tuple[str, ...] | None = None) -> LoraTraining:
        """The hyperparameters of a run over `rows` training rows with an adapter of `rank` on `targets`."""
        batch = self.batch_size
        if batch is None:
            least, most = BATCH_SIZES
            batch = min(most, max(least, (rows or 0) // 16))
        return LoraTraining(
            rank=rank,
            alpha=2 * rank if self.alpha is None else self.alpha,
            targets=targets or self.targets or (ALL_LINEAR,),
            learning_rate=self.learning_rate,
            epochs=EPOCHS if self.epochs is None else max(1, self.epochs),
            batch_size=max(1, batch),
            micro_batch_size=self.micro_batch_size,
            dropout=self.dropout,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
            max_gradient_norm=self.max_gradient_norm,
            max_length=self.max_length,
            seed=self.seed,
        )

    def steps_of(self, steps_an_epoch: int) -> int | None:
        """Steps at which the run ends; None where the time alone decides."""
        limits = [] if self.epochs is None else [self.epochs * steps_an_epoch]
        if self.steps is not None:
            limits.append(self.steps)
        if not limits and self.minutes is None:
            limits.append(EPOCHS * steps_an_epoch)
        return min(limits, default=None)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"targets": None if self.targets is None else list(self.targets)}


def settings_of(settings: RefineSettings | Mapping[str, Any] | None) -> RefineSettings:
    """`settings` themselves, or made of a mapping; unknown names are refused together."""
    if isinstance(settings, RefineSettings):
        return settings
    given = dict(settings or {})
    known = [field.name for field in fields(RefineSettings)]
    if unknown := sorted(set(given) - set(known)):
        raise UsageError(f"there is no setting {', '.join(unknown)}; there are {', '.join(known)}")
    if isinstance(given.get("targets"), str):
        given["targets"] = (given["targets"],)
    return RefineSettings(**given)
