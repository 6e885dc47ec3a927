"""Which combiner suits a mixture: `factor` where the adapters' A's are alike, `delta` everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from lorameta.adapter.lora import layout
from lorameta.adapter.shared_init import ALIKE

if TYPE_CHECKING:
    from lorameta.adapter import Adapter

#: Adapters that are looked at: the average of pairs does not need more.
SAMPLE = 8


def choose(adapters: Sequence[Adapter]) -> str:
    """``"factor"`` or ``"delta"``, for adapters that are to be mixed with weights that sum to 1.

    The average of the factors carries cross-terms wᵢ wⱼ Bᵢ Aⱼ. Where all adapters started from the same A and keep
    close to it, they replace each A by the common one, which measured better than the exact sum (the rows "(factor)" of
    benchmarks/results/quality.md); where the A's are unrelated they are noise that drowns the sum.

    Parameters
    ----------
    adapters : sequence of Adapter
        Of one base; the first `SAMPLE` are looked at.

    Returns
    -------
    str
        ``"factor"`` if all have the same modules, ranks and scalings and the A's have a mean cosine, over pairs and
        modules, of at least `ALIKE`.
    """
    looked_at = list(adapters)[:SAMPLE]
    kinds = [{m: (rank, s) for m, (rank, _, _, s) in layout(adapter.modules).items()} for adapter in looked_at]
    if len(looked_at) < 2 or any(kind != kinds[0] for kind in kinds):
        return "delta"
    return "factor" if likeness(looked_at) >= ALIKE else "delta"


def likeness(adapters: Sequence[Adapter]) -> float:
    """Return the mean cosine of the A's over all pairs of at least two adapters, and over their modules, which are the
    same."""
    found = []
    for module in adapters[0].modules:
        rows = np.stack([adapter.modules[module].A.ravel() for adapter in adapters]).astype(np.float64)
        norms = np.linalg.norm(rows, axis=1)
        unit = rows / np.where(norms > 0, norms, 1.0)[:, None]
        found += [float(unit[i] @ unit[j]) for i, j in combinations(range(len(unit)), 2)]
    return float(np.mean(found))
