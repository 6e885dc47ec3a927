"""`TrainingPlan`: what a training will do and what it takes, known before its first step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorameta.base_model.batch import EncodedExample
from lorameta.errors import LorametaError

#: Share of the training's computing that measuring the held-out rows may take, start and end not counted.
VALIDATION = 0.1
#: A forward pass alone, as a share of a step on the same tokens: the frozen weights get no gradient.
FORWARD = 0.5
#: Share of the available memory that is planned with.
USABLE = 0.95


@dataclass(frozen=True)
class TrainingPlan:
    """What a training will do.

    Attributes
    ----------
    start : {"adapter", "scratch"}
    rows, held_out : int
        That are trained on, and that the best state is chosen by.
    shortened : int
        Rows longer than `max_length`.
    tokens : int
        Of the training rows, prompts included: those of one epoch.
    longest : int
        Tokens of the longest row.
    batch_size : int
        Rows per step.
    micro_batch_tokens : int
        Tokens that go through the base at once.
    steps_an_epoch : int
    steps : int or None
        None where the time alone decides; then `expected_steps` is what the time suffices for.
    expected_steps : int
    minutes : float or None
        Of the time budget.
    evaluations : int
        Of the held-out rows, the one at the end included.
    learning_rate : float
    rank : int
    alpha : float
    targets : tuple of str
        Last parts of the names of the adapted layers.
    layers : int
        Of the base.
    top_layers : int
        That are adapted, counted from the uppermost down to the lowest with an adapter that is trained.
    kept_layers : int
        Below them, whose states are computed once per row and kept; 0 if none are.
    parameters : int
        That are trained.
    precision : str
    why : str
        What decided the precision.
    checkpointing : bool
    threads : int
    memory, available : int
        Bytes that the process needs at most, and that it may have.
    token_seconds : float
        Seconds per token, measured.
    seconds : float
        That the training will take.
    resumed_at : int
        Step at which an earlier run stopped; 0 for a new run.
    """

    start: str
    rows: int
    held_out: int
    shortened: int
    tokens: int
    longest: int
    batch_size: int
    micro_batch_tokens: int
    steps_an_epoch: int
    steps: int | None
    expected_steps: int
    minutes: float | None
    evaluations: int
    learning_rate: float
    rank: int
    alpha: float
    targets: tuple[str, ...]
    layers: int
    top_layers: int
    kept_layers: int
    parameters: int
    precision: str
    why: str
    checkpointing: bool
    threads: int
    memory: int
    available: int
    token_seconds: float
    seconds: float
    resumed_at: int = 0

    @property
    def step_seconds(self) -> float:
        """Seconds of a mean step."""
        return self.token_seconds * self.tokens / self.steps_an_epoch

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"targets": list(self.targets), "step_seconds": self.step_seconds}

    def facts(self, names: str) -> dict[str, Any]:
        """Return some of the fields, JSON-able, in this order."""
        found = self.as_dict()
        return {name: found[name] for name in names.split()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> TrainingPlan:
        """Return the inverse of :meth:`as_dict`."""
        known = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        return cls(**{**known, "targets": tuple(known["targets"])})


def held_out_for(rows: Sequence[EncodedExample], tokens: int, least: int, wished: int) -> tuple[int, int]:
    """Return how many of the held-out rows are measured, and how often, so that it stays a small part of the work.

    Parameters
    ----------
    rows : sequence of EncodedExample
        That are held out, in the order in which they would be taken.
    tokens : int
        That all steps together train on.
    least : int
        Rows that are measured in any case.
    wished : int
        Evaluations at most.

    Returns
    -------
    rows, evaluations : int
        At least one evaluation, at the end; four, if fewer rows allow it.
    """
    most = VALIDATION * tokens / FORWARD
    lengths = [len(row.ids) for row in rows]
    count = len(rows)
    while count > least and 4 * sum(lengths[:count]) > most:
        count -= 1
    return count, max(1, min(wished, int(most / sum(lengths[:count]))))


def steps_in(seconds: float, plan_tokens: float, token_seconds: float, start: float) -> int:
    """Return the steps of `plan_tokens` that a time suffices for, when `start` goes into measuring the held-out
    rows."""
    left = seconds - 2 * start
    return int(left / ((1 + VALIDATION) * plan_tokens * token_seconds)) if left > 0 else 0


def training_seconds(steps: int, step_tokens: float, held_tokens: int, evaluations: int, token_seconds: float) -> float:
    """Return the seconds of the steps and of all measurements of the held-out rows, that of the start included."""
    return token_seconds * (steps * step_tokens + FORWARD * held_tokens * (1 + evaluations))


def refuse_time(minutes: float, step_seconds: float, measuring: float) -> None:
    """Raise if not one step fits into the time."""
    least = (step_seconds + 2 * measuring) / 60
    if minutes < least:
        raise LorametaError(
            f"{minutes:g} minutes are too few: a step takes {step_seconds:.1f} s, and measuring the held-out rows "
            f"before and after {2 * measuring:.1f} s; give at least {math.ceil(least * 10) / 10:g}, fewer rows per "
            "step (--batch-size), or shorter ones (--max-length)"
        )
