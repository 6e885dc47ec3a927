"""`RefineSettings`: what a refinement or a fine-tune may be told, checked when it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lorameta.base_model import ALL_LINEAR
from lorameta.errors import UsageError
from lorameta.training.fields import POSITIVE, at_least, documented, one_of, same_as, setting, violated
from lorameta.training.settings import CHECKS, LoraTraining, target_problems

#: Passes over the rows where neither steps, nor minutes, nor epochs are given.
EPOCHS = 3
#: Rows per step where none are given: a pass over few rows still has some 20 steps.
BATCH_SIZES = (4, 8)
_MORE_CHECKS = {
    "steps top_layers evaluations save_steps threads": at_least(1),
    "minutes save_minutes": POSITIVE,
    "precision": one_of("auto", "float32", "bfloat16"),
    "validation_share": (lambda value: 0 < value <= 0.5, "it must be in (0, 0.5]"),
}
#: What a run takes as it is given here.
_PASSED_ON = ("learning_rate", "micro_batch_size", "dropout", "weight_decay", "warmup_steps", "max_gradient_norm",
              "max_length", "seed")  # fmt: skip


@documented
@dataclass(frozen=True)
class RefineSettings:
    """Settings of :func:`lorameta.training.refine` and :func:`lorameta.training.finetune`.

    The run ends with the first of `epochs`, `steps` and `minutes` that is given; without any of them after three
    epochs. The learning rate rises, then falls to 0 along a cosine over the steps, or, with `minutes`, over the time.

    Raises
    ------
    UsageError
        With every value that cannot work.
    """

    epochs: int | None = setting(None, "Passes over the rows; 3 unless steps or minutes are given.", metavar="N")
    steps: int | None = setting(None, "Steps of AdamW at most.", metavar="N")
    minutes: float | None = setting(
        None, "Wall time of the training at most, kept within one step; the learning rate falls with the time then.",
        metavar="M",
    )  # fmt: skip
    rank: int | None = setting(
        None, "Rank; by default that of the adapter, 8 from scratch. A smaller one cuts the adapter (best "
        "approximation of its update), a larger one adds directions that start at zero.", metavar="R",
    )  # fmt: skip
    alpha: float | None = setting(None, "Scaling times rank; twice the rank by default.", metavar="A")
    targets: tuple[str, ...] | None = setting(
        None, "Layers to adapt, by the last parts of their names, as q_proj,v_proj, or all-linear; by default the "
        "adapter's, all from scratch.", metavar="NAMES",
    )  # fmt: skip
    top_layers: int | None = setting(
        None, "Adapt the N uppermost layers alone; by default all. What those below make of a row is computed once and "
        "kept if there is memory: quicker.", metavar="N",
    )  # fmt: skip
    learning_rate: float | None = same_as(LoraTraining, "learning_rate")
    batch_size: int | None = setting(
        None, "Rows per step; by default a sixteenth of the rows, from 4 to 8.", metavar="N"
    )
    micro_batch_size: int | None = setting(
        None, "Rows in memory at once, with the gradient of the whole batch; by default as many as run well.",
        metavar="N",
    )  # fmt: skip
    dropout: float = same_as(LoraTraining, "dropout")
    weight_decay: float = same_as(LoraTraining, "weight_decay")
    warmup_steps: int = same_as(LoraTraining, "warmup_steps")
    max_gradient_norm: float = same_as(LoraTraining, "max_gradient_norm")
    max_length: int = same_as(LoraTraining, "max_length")
    seed: int = same_as(LoraTraining, "seed")
    precision: str = setting(
        "auto", "Precision of the base: float32, bfloat16, or auto, which measures where both are possible. The "
        "adapter is trained in float32 in any case.", metavar="NAME",
    )  # fmt: skip
    checkpointing: bool | None = setting(
        None, "Compute layers twice to save memory; by default only where memory demands it.",
        flag="--checkpointing/--no-checkpointing",
    )  # fmt: skip
    validation_share: float = setting(
        0.1, "Share of the distinct rows, in (0, 0.5], that no step sees and the best state is chosen by.", metavar="S"
    )
    evaluations: int = setting(20, "Measurements of the held-out rows at most, beside start and end.", metavar="N")
    save_minutes: float = setting(5.0, "Minutes between two checkpoints.", metavar="M")
    save_steps: int | None = setting(None, "Steps between two checkpoints, beside the time.", metavar="N")
    threads: int | None = setting(
        None,
        "Threads of torch; by default what OMP_NUM_THREADS says, else the physical cores that may be used.",
        metavar="N",
    )

    def __post_init__(self) -> None:
        problems = violated(self, CHECKS | _MORE_CHECKS)
        if self.targets is not None:
            object.__setattr__(self, "targets", tuple(sorted(set(self.targets))))
            problems += target_problems(self.targets)
        UsageError.raise_if(problems, "the settings cannot work:")

    def training(self, *, rank: int, rows: int | None = None, targets: tuple[str, ...] | None = None) -> LoraTraining:
        """Return the hyperparameters of a run over `rows` training rows with an adapter of `rank` on `targets`."""
        batch = self.batch_size
        if batch is None:
            least, most = BATCH_SIZES
            batch = min(most, max(least, (rows or 0) // 16))
        return LoraTraining(
            rank=rank,
            alpha=2 * rank if self.alpha is None else self.alpha,
            targets=targets or self.targets or (ALL_LINEAR,),
            epochs=EPOCHS if self.epochs is None else self.epochs,
            batch_size=batch,
            **{name: getattr(self, name) for name in _PASSED_ON},
        )

    def steps_of(self, steps_an_epoch: int) -> int | None:
        """Return the steps at which the run ends; None where the time alone decides."""
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
