"""`Loop`: the steps of a training, from a start or a checkpoint to the best state that the held-out rows saw."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorameta.base_model.batch import EncodedExample
from lorameta.training.budget import Budget
from lorameta.training.checkpoint import PARTS, CheckpointFolder, TrainingState
from lorameta.training.engine import Engine, Watch, answers, losses_of
from lorameta.training.plan import FORWARD, TrainingPlan
from lorameta.training.prefix import Prefix
from lorameta.training.progress import Log, TrainingProgress
from lorameta.training.rows import batches, cut
from lorameta.training.settings import LoraTraining

#: Weight of the newest step in the mean speed.
_NEWEST = 0.2


@dataclass(frozen=True)
class Hooks:
    """What happens beside the training.

    Attributes
    ----------
    report : callable, optional
        Is shown the :class:`TrainingProgress` after each step.
    observe : callable, optional
        Called with the step, the seconds of training so far and the best factors, after each measurement of the held-
        out rows; its own time counts as nothing.
    store : CheckpointFolder, optional
        Where checkpoints go.
    log : Log
    save_seconds : float
    save_steps : int, optional
        Between two checkpoints.
    """

    report: Callable[[TrainingProgress], object] | None = None
    observe: Callable[[int, float, Mapping[str, Any]], object] | None = None
    store: CheckpointFolder | None = None
    log: Log = field(default_factory=lambda: Log(None))
    save_seconds: float = 300.0
    save_steps: int | None = None


class Loop:
    """One training.

    Parameters
    ----------
    model : peft.PeftModel
        With the factors that it starts from.
    train, held_out : sequence of EncodedExample
    plan : TrainingPlan
    settings : LoraTraining
    pad : int
        Id of the padding token.
    hooks : Hooks
    prefix : Prefix, optional
        Of frozen layers, mounted.
    """

    def __init__(
        self,
        model: Any,
        train: Sequence[EncodedExample],
        held_out: Sequence[EncodedExample],
        plan: TrainingPlan,
        settings: LoraTraining,
        pad: int,
        hooks: Hooks,
        prefix: Prefix | None = None,
    ) -> None:
        self.train, self.plan, self.settings, self.hooks = train, plan, settings, hooks
        losses = losses_of(model, pad, prefix=prefix)
        self.engine = Engine(model, losses, settings)
        self._held_out = list(
            cut(held_out, tokens=2 * plan.micro_batch_tokens)
        )  # no gradients are kept, so more tokens fit
        seconds = None if plan.minutes is None else 60 * plan.minutes
        self.budget = Budget(plan.steps, seconds, settings.warm_up(plan.expected_steps))
        self.measuring = FORWARD * plan.token_seconds * sum(len(row.ids) for row in held_out)
        self.state = TrainingState(seconds_a_token=plan.token_seconds)
        self._order: tuple[int, list[list[int]]] = (-1, [])

    def run(self, spent: float = 0.0) -> None:
        """From the checkpoint, if there is one, else from the start, to the end of the budget.

        Afterwards `engine.best` has the factors of the best state, and `state` tells how it went.

        Parameters
        ----------
        spent : float
            Seconds of the budget that were used before, for measuring.
        """
        import torch

        self._begun, self._before = time.perf_counter(), spent
        self._saved_at = self._begun
        if not self._resume():
            torch.manual_seed(self.settings.seed)  # of the dropout
            self._evaluate()
        while not self._ends():
            if self._diverges(self._batch()):
                break
            if self._due():
                self._evaluate()
                if self.engine.diverged:
                    break
            self._save()
        if not self.engine.diverged and self.engine.history[-1][0] != self.engine.step:
            self._evaluate()
        self._note()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those of earlier runs included."""
        return self._before + time.perf_counter() - self._begun

    def _ends(self) -> bool:
        ahead = 0.0
        if self.budget.seconds is not None and not self.budget.ends(self.engine.step, self.elapsed, 0.0):
            # One evaluation is owed at the end for whatever step is made.
            ahead = self.measuring + self.state.seconds_a_token * sum(len(self.train[i].ids) for i in self._batch())
        return self.budget.ends(self.engine.step, self.elapsed, ahead)

    def _batch(self) -> list[int]:
        """Return the rows of the step after `state.step`: an order for each epoch, from the seed alone."""
        epoch, place = divmod(self.engine.step, self.plan.steps_an_epoch)
        if self._order[0] != epoch:
            rng = random.Random(f"{self.settings.seed} {epoch}")
            lengths = [len(row.ids) for row in self.train]
            self._order = (epoch, batches(lengths, self.plan.batch_size, rng))
        return self._order[1][place]

    def _diverges(self, batch: list[int]) -> bool:
        """One step; whether the run has to be given up instead."""
        begun = time.perf_counter()
        rate = self.plan.learning_rate * self.budget.factor(self.engine.step, self.elapsed)
        micro_batches = cut(self.train, batch, most=self.settings.micro_batch_size, tokens=self.plan.micro_batch_tokens)
        loss, norm = self.engine.train(micro_batches, rate)
        if self.engine.diverged:
            self.hooks.log.write("diverged", step=self.engine.step + 1, why=self.engine.diverged)
            return True
        tokens = sum(len(self.train[i].ids) for i in batch)
        seconds = time.perf_counter() - begun
        self.state.tokens += tokens
        speed = self.state.seconds_a_token
        self.state.seconds_a_token = (1 - _NEWEST) * speed + _NEWEST * seconds / tokens
        recent = self.engine.watch.recent
        progress = self._show(sum(recent) / len(recent))
        self.hooks.log.write(
            "step", step=self.engine.step, loss=loss, rate=rate, gradient=norm, tokens=tokens,
            answers=sum(answers(self.train[i]) for i in batch), seconds=round(seconds, 4),
            tokens_per_second=round(tokens / seconds, 1), elapsed=round(self.elapsed, 3),
            memory_mb=None if progress is None else round(progress.memory / 1e6),
            left=None if progress is None else round(progress.left, 1),
        )  # fmt: skip
        return False

    def _due(self) -> bool:
        """Check whether the held-out rows are to be measured now; the end has its own measurement."""
        mark = self.state.next_evaluation / self.plan.evaluations
        return mark < 1 and self.budget.used(self.engine.step, self.elapsed) >= mark

    def _evaluate(self) -> None:
        """Measure the held-out rows, at the start as well: what is returned must not be worse."""
        begun = time.perf_counter()
        loss = self.engine.measure(self._held_out)
        self.measuring = time.perf_counter() - begun
        while self.state.next_evaluation / self.plan.evaluations <= self.budget.used(self.engine.step, self.elapsed):
            self.state.next_evaluation += 1
        self.hooks.log.write(
            "evaluation", step=self.engine.step, validation_loss=loss,
            best=self.engine.best_step == self.engine.step, seconds=round(self.elapsed, 3),
        )  # fmt: skip
        if self.hooks.observe is not None:
            begun = time.perf_counter()
            self.hooks.observe(self.engine.step, self.elapsed, self.engine.best)
            self._begun += time.perf_counter() - begun
        if len(self.engine.history) == 1:
            self._show(None)

    def _show(self, loss: float | None) -> TrainingProgress | None:
        if self.hooks.report is None and self.hooks.log.file is None:
            return None
        import psutil

        engine = self.engine
        progress = TrainingProgress(
            step=engine.step,
            steps=self.plan.steps,
            used=self.budget.used(engine.step, self.elapsed),
            loss=loss,
            validation=engine.history[-1][1],
            best=dict(engine.history)[engine.best_step],
            best_step=engine.best_step,
            tokens_a_second=1 / self.state.seconds_a_token if self.state.seconds_a_token else 0.0,
            memory=psutil.Process().memory_info().rss,
            left=self._left(),
        )
        if self.hooks.report is not None:
            self.hooks.report(progress)
        return progress

    def _left(self) -> float:
        left = math.inf if self.budget.seconds is None else self.budget.seconds - self.elapsed
        if self.budget.steps is not None:
            missing = self.budget.steps - self.engine.step
            step = self.state.seconds_a_token * self.plan.tokens / self.plan.steps_an_epoch
            rest = max(0, self.plan.evaluations - self.state.next_evaluation + 1)
            left = min(left, missing * step + rest * self.measuring)
        return max(0.0, left)

    def _save(self) -> None:
        hooks, step = self.hooks, self.engine.step
        if hooks.store is None:
            return
        due = time.perf_counter() - self._saved_at >= hooks.save_seconds
        if due or (hooks.save_steps is not None and step % hooks.save_steps == 0):
            self._write(hooks.store)

    def _write(self, store: CheckpointFolder) -> None:
        """Write a checkpoint."""
        import torch

        self._note()
        tensors = {"rng": torch.get_rng_state()}
        for name, p in self.engine.parameters.items():
            moments = self.engine.optimizer.state[p]
            values = (p.detach(), moments["exp_avg"], moments["exp_avg_sq"], self.engine.best[name])
            tensors |= {f"{part}/{name}": v.contiguous() for part, v in zip(PARTS, values, strict=True)}
        store.save(self.state, tensors)
        self._saved_at = time.perf_counter()
        self.hooks.log.write("checkpoint", step=self.engine.step)

    def _note(self) -> None:
        """Bring the state up to date: what a checkpoint keeps and the report tells."""
        engine = self.engine
        self.state.step, self.state.best_step, self.state.history = engine.step, engine.best_step, engine.history
        self.state.recent, self.state.elapsed = engine.watch.recent, self.elapsed

    def _resume(self) -> bool:
        import torch

        found = None if self.hooks.store is None else self.hooks.store.load()
        if found is None:
            return False
        self.state, tensors = found
        self._before = self.state.elapsed
        engine = self.engine
        engine.step, engine.best_step, engine.history = self.state.step, self.state.best_step, self.state.history
        engine.watch = Watch(max(engine.history[0][1], engine.watch.blind), list(self.state.recent))
        with torch.no_grad():
            for name, p in engine.parameters.items():
                p.copy_(tensors[f"now/{name}"])
        engine.best = {name: tensors[f"best/{name}"] for name in engine.parameters}
        moments = {
            index: {
                "step": torch.tensor(float(engine.step)),
                "exp_avg": tensors[f"first/{name}"],
                "exp_avg_sq": tensors[f"second/{name}"],
            }
            for index, name in enumerate(engine.parameters)
        }
        groups = engine.optimizer.state_dict()["param_groups"]
        engine.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        torch.set_rng_state(tensors["rng"])
        self.hooks.log.write("resumed", step=engine.step)
        return True
