"""Training a LoRA adapter by gradient descent, on a CPU: from an adapter, from scratch, or many for a bank.

`refine` and `finetune` are for one dataset: they plan, measure, keep checkpoints and a time budget. `train_adapter` is
the plain run by epochs that `lorameta bank train` spreads over processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorameta.base_model.load import Base, load_base
from lorameta.data.split import Parts, part_of, split_examples
from lorameta.training.options import RefineSettings
from lorameta.training.progress import Progress
from lorameta.training.settings import LoraTraining
from lorameta.training.train import Trained, train_adapter

if TYPE_CHECKING:
    from lorameta.training.api import finetune, prepared, refine

__all__ = [
    "Base",
    "LoraTraining",
    "Parts",
    "Progress",
    "RefineSettings",
    "Trained",
    "finetune",
    "load_base",
    "part_of",
    "prepared",
    "refine",
    "split_examples",
    "train_adapter",
]


def __getattr__(name: str) -> Any:
    if name in ("finetune", "prepared", "refine"):  # they ask `doctor` about the machine, which knows this package
        from lorameta.training import api

        return getattr(api, name)
    raise AttributeError(f"module 'lorameta.training' has no attribute {name!r}")
