"""The recipes that are compared, each for a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorameta.adapter import Adapter
from lorameta.base_model.load import Base
from lorameta.base_model.shape import chosen_paths, linear_shapes
from lorameta.training import LoraTraining

#: Common to all but those that are stopped elsewhere: 256 rows once.
ROWS = 256
COMMON = {"epochs": 1, "batch_size": 8, "alpha": 16.0, "share_prefix": True}


@dataclass(frozen=True)
class Candidate:
    """A recipe: what differs from the common settings, why it is tried, and the rows that are seen, each once."""

    why: str
    changes: dict[str, Any] = field(default_factory=dict)
    rows: int = ROWS

    @property
    def settings(self) -> LoraTraining:
        return LoraTraining(**(COMMON | self.changes))

    def initial(self, base: Base, principal: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray] | None:
        """A of each layer, where it is not drawn at random: the first of the principal directions of its input."""
        settings = self.settings
        if settings.init_a != "principal":
            return None
        known = principal()
        modules = chosen_paths(linear_shapes(base.model), settings.targets, base.name)
        return {module: known[module][: settings.rank] for module in modules}

    def numbers(self, adapter: Adapter) -> int:
        """Numbers that a bank has to store of an adapter: B alone where A is common."""
        return sum(pair.B.size + (0 if self.settings.freeze_a else pair.A.size) for pair in adapter.modules.values())


def b_alone(rank: int, rate: float, init: str = "principal", **changes: Any) -> dict[str, Any]:
    return {"rank": rank, "learning_rate": rate, "freeze_a": True, "init_a": init} | changes


#: The linear layers of the upper 15 of SmolLM2-135M's 30 blocks.
UPPER_HALF = tuple(
    f"{block}.{layer}"
    for block in range(15, 30)
    for layer in (
        *(f"self_attn.{name}_proj" for name in "qkvo"), *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    )
)  # fmt: skip

CANDIDATES = {
    "b-r4-principal": Candidate("B alone on a common A: half the numbers, exact sums", b_alone(4, 2e-3)),
    "b-r4-random": Candidate("whether the directions of A matter", b_alone(4, 2e-3, "random")),
    "b-r8-principal": Candidate("twice the numbers", b_alone(8, 2e-3)),
    "b-r4-principal-1e-3": Candidate("trained less, nearer to linear", b_alone(4, 1e-3)),
    "b-r4-principal-5e-4": Candidate("trained still less", b_alone(4, 5e-4)),
    "b-r4-principal-3e-4": Candidate("trained less again", b_alone(4, 3e-4)),
    "b-r4-principal-3e-3": Candidate("trained more", b_alone(4, 3e-3)),
    "b-r4-principal-128-rows": Candidate("stopped after 16 steps", b_alone(4, 2e-3), 128),
    "b-r4-principal-512-rows": Candidate("stopped after 64 steps", b_alone(4, 2e-3), 512),
    "ab-r4": Candidate("both factors, from one start", {"rank": 4, "learning_rate": 5e-4}),
    "b-r6-q-v-o-down": Candidate(
        "half of the numbers", b_alone(6, 5e-4, targets=("q_proj", "v_proj", "o_proj", "down_proj"))
    ),
    "b-r8-upper-half": Candidate(
        "as many numbers in half of the blocks: passes could start from cached states",
        b_alone(8, 5e-4, targets=UPPER_HALF),
    ),
}
