"""Training a LoRA adapter by gradient descent, on a CPU: from an adapter, from scratch, or many for a bank.

`refine` and `finetune` are for one dataset: they plan, measure, keep checkpoints and a time budget. `train_adapter` is
the plain run by epochs that `lorameta bank train` spreads over processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorameta.refine.base import Base, load_base
from lorameta.refine.options import RefineSettings
from lorameta.refine.progress import Progress
from lorameta.refine.settings import LoraTraining
from lorameta.refine.split import Parts, part_of, split_examples
from lorameta.refine.train import Trained, train_adapter

if TYPE_CHECKING:
    from lorameta.refine.api import finetune, prepared, refine

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
        from lorameta.refine import api

        return getattr(api, name)
    raise AttributeError(f"module 'lorameta.refine' has no attribute {name!r}")
