"""Training one adapter on rows of all tasks of a bank; `lorameta.operator.multi_task_file` keeps it there."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lorameta.errors import UsageError

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank
    from lorameta.base_model.load import Base
    from lorameta.data.split import Parts
    from lorameta.training import LoraTraining
    from lorameta.training.train import Trained

#: Training rows of a task, and validation rows.
ROWS, HELD_OUT = 16, 1
#: Of the bank's recipe, what the training of one adapter of many tasks has in common with it.
_KEPT = (
    "learning_rate", "batch_size", "micro_batch_size", "dropout", "weight_decay", "warmup_steps", "max_gradient_norm",
    "max_length", "seed", "base_dtype", "freeze_a",
)  # fmt: skip


def train(
    bank: AdapterBank,
    parts: Mapping[str, Parts],
    *,
    rows: int = ROWS,
    base: Base | None = None,
    progress: Callable[[int], object] | None = None,
) -> Trained:
    """Train an adapter of the bank's rank and layers, by the bank's recipe, once over rows of all tasks.

    Where the bank's recipe froze A, the new adapter has the same A: its sum with a mixture then has the rank of the
    bank's adapters, exactly.

    Parameters
    ----------
    bank : AdapterBank
        Or a view of it, whose tasks alone are then trained on.
    parts : mapping of str to Parts
        By adapter, the rows of its task, split as for the training of the bank.
    rows : int
        Training rows of each task.
    base : Base, optional
        The bank's base, if it is in memory already.
    progress : callable, optional
        Called with 1 after each step.

    Returns
    -------
    Trained

    Raises
    ------
    UsageError
        A task has no rows.
    """
    from lorameta.base_model.load import load_base
    from lorameta.data.split import Parts
    from lorameta.training.train import train_adapter

    if missing := [name for name in bank.ids if name not in parts or not parts[name].train]:
        raise UsageError(f"there are no rows of {len(missing)} tasks: {', '.join(missing[:5])}")
    settings = settings_of(bank)
    train_rows = [row for name in bank.ids for row in parts[name].train[:rows]]
    random.Random(settings.seed).shuffle(train_rows)
    held_out = [row for name in bank.ids for row in parts[name].validation[:HELD_OUT]]
    first = bank.ids[0]
    bank.fetch([first])
    initial = {module: pair.A for module, pair in bank[first].modules.items()} if settings.freeze_a else None
    loaded = base or load_base(bank.base_model, bank.base_revision, settings.base_dtype or "float32")
    tell = None if progress is None else lambda done, whole: progress(1)
    return train_adapter(Parts(tuple(train_rows), tuple(held_out)), loaded, settings, initial=initial, progress=tell)


def settings_of(bank: AdapterBank) -> LoraTraining:
    """Rank, layers and recipe of the bank's adapters; what the bank does not say is as :class:`LoraTraining` has it."""
    from lorameta.training import LoraTraining

    record, recipe = bank.records[bank.ids[0]], bank.manifest.recipe.get("settings", {})
    kept = {name: recipe[name] for name in _KEPT if name in recipe}
    kept |= {"rank": record.rank, "alpha": record.alpha, "targets": tuple(record.targets)}
    return LoraTraining(**kept, epochs=1, dtype="float32")
