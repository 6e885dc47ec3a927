"""Training a LoRA adapter by gradient descent, on a CPU: from an adapter, from scratch, or many for a bank.

`refine` and `finetune` are for one dataset: they plan, measure, keep checkpoints and a time budget. `train_adapter` is
the plain run by epochs that `lorameta bank train` spreads over processes. `fit_readout` takes no gradient step: it fits
the end of the model on the states of one forward pass.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorameta.base_model.load import Base, load_base
    from lorameta.data.split import Parts, part_of, split_examples
    from lorameta.training.api import finetune, prepared, refine
    from lorameta.training.fit import fit_readout
    from lorameta.training.options import RefineSettings
    from lorameta.training.progress import TrainingProgress
    from lorameta.training.settings import LoraTraining
    from lorameta.training.train import Trained, train_adapter

__all__ = [
    "Base",
    "LoraTraining",
    "Parts",
    "RefineSettings",
    "Trained",
    "TrainingProgress",
    "finetune",
    "fit_readout",
    "load_base",
    "part_of",
    "prepared",
    "refine",
    "split_examples",
    "train_adapter",
]

#: Public name -> its module, imported when the name is first used: the command line reads the settings alone.
_HOME = {
    "Base": "lorameta.base_model.load",
    "LoraTraining": "lorameta.training.settings",
    "Parts": "lorameta.data.split",
    "TrainingProgress": "lorameta.training.progress",
    "RefineSettings": "lorameta.training.options",
    "Trained": "lorameta.training.train",
    "finetune": "lorameta.training.api",
    "fit_readout": "lorameta.training.fit",
    "load_base": "lorameta.base_model.load",
    "part_of": "lorameta.data.split",
    "prepared": "lorameta.training.api",
    "refine": "lorameta.training.api",
    "split_examples": "lorameta.data.split",
    "train_adapter": "lorameta.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lorameta.training' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
