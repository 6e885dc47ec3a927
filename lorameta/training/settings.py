"""`LoraTraining`: the hyperparameters of one LoRA run, checked when they are set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lorameta.base_model import ALL_LINEAR
from lorameta.errors import UsageError
from lorameta.training.fields import POSITIVE, at_least, documented, one_of, setting, violated

if TYPE_CHECKING:
    from lorameta.data.split import Parts


#: Fields of :class:`LoraTraining` → what they must be.
CHECKS = {
    "rank epochs batch_size micro_batch_size max_rows measured_rows": at_least(1),
    "warmup_steps weight_decay": at_least(0),
    "max_length": at_least(8),
    "alpha learning_rate max_gradient_norm": POSITIVE,
    "dropout": (lambda value: 0 <= value < 1, "it must be in [0, 1)"),
    "seed": (lambda value: 0 <= value < 1 << 63, "it must be at least 0 and below 2**63"),
    "dtype base_dtype": one_of("float32", "bfloat16"),
    "init_a": one_of("random", "principal"),
}


def target_problems(targets: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the layers to adapt."""
    if not targets or not all(targets):
        return [f"targets are {targets}; name at least one layer, or {ALL_LINEAR}"]
    if ALL_LINEAR in targets and len(targets) > 1:
        return [f"targets are {', '.join(targets)}; {ALL_LINEAR} stands alone"]
    return []


@documented
@dataclass(frozen=True)
class LoraTraining:
    """Hyperparameters of a LoRA run; the defaults are those that the field starts from.

    Raises
    ------
    UsageError
        With every value that cannot work.
    """

    rank: int = setting(8, "Rank of the adapter.", metavar="R")
    alpha: float = setting(None, "The update is alpha / rank · B A; twice the rank by default.", metavar="A")
    targets: tuple[str, ...] = setting(
        (ALL_LINEAR,), "Layers to adapt, by the last parts of their names, as q_proj,v_proj, or all-linear: every "
        "linear layer but the head.", metavar="NAMES",
    )  # fmt: skip
    learning_rate: float | None = setting(
        None, "Learning rate of AdamW; by default 5e-4 (2000 / width)^0.781: 2.9e-4 for a base of 7B, 2.5e-3 for one "
        "of width 256.", metavar="X",
    )  # fmt: skip
    epochs: int = setting(3, "Passes over the rows at most; the best of them is kept.", metavar="N")
    batch_size: int = setting(16, "Rows per step.", metavar="N")
    micro_batch_size: int | None = setting(
        None, "Rows in memory at once, with the gradient of the whole batch; by default all of it.", metavar="N"
    )
    dropout: float = setting(0.0, "Dropout on the input of the adapter, in [0, 1).", metavar="P")
    weight_decay: float = setting(0.0, "Weight decay of AdamW.", metavar="X")
    warmup_steps: int = setting(
        20, "Steps in which the learning rate rises, at most a tenth of all; then it falls to 0 along a cosine.",
        metavar="N",
    )  # fmt: skip
    max_gradient_norm: float = setting(1.0, "Norm to which a longer gradient is clipped.", metavar="X")
    max_length: int = setting(1024, "Tokens per row; a longer prompt loses its beginning.", metavar="N")
    seed: int = setting(0, "Seed of the first A, of the order of the rows, and of dropout.", metavar="N")
    dtype: str = setting(
        "float32", "What the finished adapter is rounded to: float32 or bfloat16; it is trained in float32.",
        metavar="NAME",
    )  # fmt: skip
    freeze_a: bool = setting(
        False, "Train B alone; A stays as it was initialised. With one A for a whole bank the average of the factors "
        "is the exact sum of the updates.",
    )  # fmt: skip
    init_a: str = setting(
        "random", "Where A comes from: random, drawn from the seed, or principal, the directions in which the inputs "
        "of each layer vary most over generic text.", metavar="NAME",
    )  # fmt: skip
    max_rows: int | None = setting(
        None, "Train on at most N of a task's rows, the first in the order of their hashes; by default on all.",
        metavar="N",
    )  # fmt: skip
    measured_rows: int | None = setting(
        None, "Measure losses on at most N held-out rows of a part; by default on all.", metavar="N"
    )
    base_dtype: str | None = setting(
        None, "What the frozen base computes in: float32, or bfloat16, which is faster on processors with AVX512_BF16 "
        "or AMX; by default float32 below a billion parameters.", metavar="NAME",
    )  # fmt: skip
    share_prefix: bool = setting(
        False, "Pass the tokens that all rows of a batch begin with once: the same numbers up to rounding, in half the "
        "time where a definition is half of every prompt.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(sorted(set(self.targets))))
        object.__setattr__(self, "alpha", float(2 * self.rank if self.alpha is None else self.alpha))
        problems = violated(self, CHECKS) + target_problems(self.targets)
        UsageError.raise_if(problems, "the training settings cannot work:")

    def rate(self, width: int) -> float:
        """Return the learning rate for a base of hidden size `width`.

        Where none was set it is 5e-4 · (2000 / width)^0.781: 2.9e-4 for a 7B model of width 4096, 2.5e-3 for one of
        256.

        References
        ----------
        Schulman and Thinking Machines Lab, LoRA Without Regret, 2025: ten times the rate of full fine-tuning, with
        the exponent fitted to the Llama family; nearly independent of the rank.
        """
        return 5e-4 * (2000 / width) ** 0.781 if self.learning_rate is None else self.learning_rate

    def warm_up(self, steps: int) -> int:
        """Return the steps of the rise in a run of `steps`."""
        return min(self.warmup_steps, steps // 10)

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the learning rate at `step`, counted from 0, of a run of `steps`: a rise, then half a
        cosine."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up(steps)))
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

    def rows_of(self, parts: Parts) -> Parts:
        """Return the rows that a run uses: the first of each part, as far as `max_rows` and `measured_rows` go."""
        few = self.measured_rows
        return replace(
            parts, train=parts.train[: self.max_rows], validation=parts.validation[:few], test=parts.test[:few]
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"targets": list(self.targets)}
