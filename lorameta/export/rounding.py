"""What of an update is lost when the merged weights are rounded to their dtype."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Rounding:
    """What was lost between W + ΔW and the numbers that were stored, gathered block by block."""

    errors: dict[str, float] = field(default_factory=dict)  # Σ (stored − exact)² by layer
    updates: dict[str, float] = field(default_factory=dict)  # Σ ΔW² by layer
    numbers: int = 0
    unmoved: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, module: str, exact: np.ndarray, update: np.ndarray, stored: np.ndarray, before: np.ndarray) -> None:
        """Count one block of rows of a layer."""
        error = stored - exact
        self.errors[module] = self.errors.get(module, 0.0) + float(np.vdot(error, error))
        self.updates[module] = self.updates.get(module, 0.0) + float(np.vdot(update, update))
        self.numbers += stored.size
        self.unmoved += int((stored == before).sum())

    def total(self) -> float:
        """‖stored − (W + ΔW)‖ / ‖ΔW‖ over all layers."""
        update = sum(self.updates.values())
        return float(np.sqrt(sum(self.errors.values()) / update)) if update else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the worst layer, and the share of weights that did not move."""
        each = {name: np.sqrt(self.errors[name] / update) for name, update in self.updates.items() if update}
        worst = max(each, key=lambda name: each[name], default="")
        return {
            "worst_module": worst,
            "worst_rounding": float(each[worst]) if worst else 0.0,
            "unchanged": self.unmoved / self.numbers if self.numbers else 0.0,
        }
