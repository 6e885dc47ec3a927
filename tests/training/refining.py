"""The rows and settings of short runs on the miniature base."""

from __future__ import annotations

import numpy as np

from lorameta.adapter import Adapter
from tests.conftest import task_rows

ROWS = task_rows("animal_sound", 40)
FAST = {"steps": 20, "learning_rate": 2e-2, "batch_size": 8, "rank": 4, "precision": "float32", "threads": 1}


def same(first: Adapter, second: Adapter) -> bool:
    """Whether two adapters are equal bit by bit, as those of one run that is made twice in one process are."""
    return first.modules.keys() == second.modules.keys() and all(
        np.array_equal(pair.delta(), second.modules[name].delta()) for name, pair in first.modules.items()
    )
