"""Training a LoRA adapter by gradient descent, on a CPU: settings, the split of the rows, one run.

`train_adapter` is the engine; whoever needs an adapter trained calls it with rows in parts and a loaded base.
"""

from __future__ import annotations

from lorameta.refine.base import Base, load_base
from lorameta.refine.settings import LoraTraining
from lorameta.refine.split import Parts, part_of, split_examples
from lorameta.refine.train import Trained, train_adapter

__all__ = ["Base", "LoraTraining", "Parts", "Trained", "load_base", "part_of", "split_examples", "train_adapter"]
