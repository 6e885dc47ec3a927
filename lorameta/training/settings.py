"""`LoraTraining`: the hyperparameters of one LoRA run, checked when they are set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lorameta.base_model.shape import ALL_LINEAR
from lorameta.data.split import Parts
from lorameta.errors import UsageError, violations


@dataclass(frozen=True)
class LoraTraining:
    """Hyperparameters of a LoRA run; the defaults are those that the field starts from.

    Attributes
    ----------
    rank : int
        r, at least 1.
    alpha : float
        The update is alpha / rank · B A; twice the rank by custom.
    targets : tuple of str
        Last parts of the names of the layers that are adapted, or ``("all-linear",)``, which PEFT resolves to every
        linear layer but the head.
    learning_rate : float or None
        Of AdamW. None: 5e-4 · (2000 / width)^0.781, see :meth:`rate`.
    epochs : int
        Passes over the training rows; the best of them is kept, so that too many cost time only.
    batch_size : int
        Rows a step.
    micro_batch_size : int or None
        Rows in memory at once; the gradient is that of the whole batch. None: all of the batch.
    dropout : float
        On the input of A, in [0, 1).
    weight_decay : float
        At least 0.
    warmup_steps : int
        Steps in which the rate rises, at most a tenth of all; then it falls to 0 along a cosine.
    max_gradient_norm : float
        Longer gradients are shortened to this.
    max_length : int
        Longest row in tokens; a longer prompt loses its beginning, see
        :func:`lorameta.base_model.batch.encode_example`.
    seed : int
        Of the initial A, the order of the rows, and dropout.
    dtype : {"float32", "bfloat16"}
        What the finished factors are rounded to; they are trained in float32.
    freeze_a : bool
        Train B alone; A stays as it was initialised, the same for every run of one seed. Adapters that are to be mixed
        gain by it: with one A the average of the factors is the exact sum of the updates, (Σ wᵢ Bᵢ) A.
    init_a : {"random", "principal"}
        Where A comes from: drawn from `seed`, or the directions in which the inputs of each layer vary most over
        generic text, see :mod:`lorameta.training.principal`.
    max_rows : int or None
        Train on at most so many of the training rows, the first in the order of their hashes. None: on all.
    measured_rows : int or None
        Measure losses on at most so many validation rows and as many test rows. None: on all.
    base_dtype : {"float32", "bfloat16"} or None
        What the frozen base computes in while training. None: float32 below a billion parameters, bfloat16 above.
        bfloat16 is faster where the processor multiplies it (AVX512_BF16, AMX), and slower elsewhere.
    share_prefix : bool
        Pass the tokens that all rows of a batch begin with once, see :mod:`lorameta.base_model.shared_prefix`. The
        numbers are the same up to rounding; where a definition is half of every prompt, a run takes half the time.

    Raises
    ------
    UsageError
        With every value that cannot work.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = (ALL_LINEAR,)
    learning_rate: float | None = None
    epochs: int = 3
    batch_size: int = 16
    micro_batch_size: int | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    warmup_steps: int = 20
    max_gradient_norm: float = 1.0
    max_length: int = 1024
    seed: int = 0
    dtype: str = "float32"
    freeze_a: bool = False
    init_a: str = "random"
    max_rows: int | None = None
    measured_rows: int | None = None
    base_dtype: str | None = None
    share_prefix: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(sorted(set(self.targets))))
        object.__setattr__(self, "alpha", float(self.alpha))
        problems = [
            f"{name} is {getattr(self, name)}; it must be at least {least}"
            for name, least in (("rank", 1), ("epochs", 1), ("batch_size", 1), ("warmup_steps", 0), ("max_length", 8))
            if getattr(self, name) < least
        ]
        for name in ("alpha", "learning_rate", "max_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                problems.append(f"{name} is {value}; it must be a positive number")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            problems.append(f"micro_batch_size is {self.micro_batch_size}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout is {self.dropout}; it must be in [0, 1)")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            problems.append(f"weight_decay is {self.weight_decay}; it must be at least 0")
        if not 0 <= self.seed < 1 << 63:
            problems.append(f"seed is {self.seed}; it must be at least 0 and below 2**63")
        if not self.targets or not all(self.targets):
            problems.append(f"targets are {self.targets}; name at least one layer, or {ALL_LINEAR}")
        elif ALL_LINEAR in self.targets and len(self.targets) > 1:
            problems.append(f"targets are {', '.join(self.targets)}; {ALL_LINEAR} stands alone")
        if self.dtype not in ("float32", "bfloat16"):
            problems.append(f"dtype is {self.dtype!r}; there are float32 and bfloat16")
        if self.init_a not in ("random", "principal"):
            problems.append(f"init_a is {self.init_a!r}; there are random and principal")
        for name in ("max_rows", "measured_rows"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.base_dtype not in (None, "float32", "bfloat16"):
            problems.append(f"base_dtype is {self.base_dtype!r}; there are float32 and bfloat16")
        if problems:
            raise UsageError(violations(problems, "the training settings cannot work:"))

    def rate(self, width: int) -> float:
        """The learning rate for a base of hidden size `width`.

        Where none was set it is 5e-4 · (2000 / width)^0.781: 2.9e-4 for a 7B model of width 4096, 2.5e-3 for one of
        256.

        References
        ----------
        Schulman and Thinking Machines Lab, LoRA Without Regret, 2025: ten times the rate of full fine-tuning, with
        the exponent fitted to the Llama family; nearly independent of the rank.
        """
        return 5e-4 * (2000 / width) ** 0.781 if self.learning_rate is None else self.learning_rate

    def warm_up(self, steps: int) -> int:
        """Steps of the rise in a run of `steps`."""
        return min(self.warmup_steps, steps // 10)

    def factor(self, step: int, steps: int) -> float:
        """Share of the learning rate at `step`, counted from 0, of a run of `steps`: a rise, then half a cosine."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up(steps)))
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

    def rows_of(self, parts: Parts) -> Parts:
        """Return the rows that a run uses: the first of each part, as far as `max_rows` and `measured_rows` go."""
        few = self.measured_rows
        return Parts(parts.train[: self.max_rows], parts.validation[:few], parts.test[:few])

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"targets": list(self.targets)}
