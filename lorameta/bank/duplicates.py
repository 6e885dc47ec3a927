"""Adapters that are in a bank twice: the same file, or the same update in other bytes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from lorameta.adapter import Adapter
from lorameta.bank.bank import AdapterBank
from lorameta.bank.scan import Measures

#: Updates that differ by less, relative to their norm, count as the same: rounding to bfloat16 stays below.
SAME = 0.01
#: Pairs of adapters that are read again to find out; two adapters only come this near if they are related.
_PAIRS = 50


def equal_updates(bank: AdapterBank, measures: Mapping[str, Measures]) -> list[str]:
    """Return what to say of adapters that are the same; `measures` are those of the adapters that are sound."""
    same: dict[str, list[str]] = defaultdict(list)
    for name, record in bank.records.items():
        same[record.sha256].append(name)
    found = [f"{', '.join(names)}: they are the same file" for names in same.values() if len(names) > 1]
    single = [name for name in measures if same[bank.records[name].sha256][0] == name]
    for one, other in _near({name: measures[name] for name in single}):
        distance = difference(bank[one], bank[other])
        if distance < SAME:
            found.append(
                f"{one}, {other}: they are the same update in different files (relative difference {distance:.1g})"
            )
    return found


def difference(one: Adapter, other: Adapter) -> float:
    """‖ΔW₁ − ΔW₂‖ / ‖ΔW₁‖ over all modules, from Gram matrices: ‖X − Y‖² = ‖X‖² + ‖Y‖² − 2 ⟨X, Y⟩.

    Computed in float64, in which the difference of near-equal updates loses half of the digits: below 1e-7 is 0.
    """
    squared = total = 0.0
    for module in one.modules:
        x, y = one.modules[module], other.modules[module]
        A, B, C, D = (part.astype(np.float64) for part in (x.A, x.B, y.A, y.B))
        own, others = x.scaling**2 * np.vdot(B.T @ B, A @ A.T), y.scaling**2 * np.vdot(D.T @ D, C @ C.T)
        squared += float(own + others - 2 * x.scaling * y.scaling * np.vdot(B.T @ D, A @ C.T))
        total += float(own)
    return math.sqrt(max(squared, 0.0) / total) if total > 0 else math.inf


def _near(measures: Mapping[str, Measures]) -> list[tuple[str, str]]:
    """Return the pairs of adapters with the same modules whose norms agree in each of them."""
    ordered = sorted((one.norm, name) for name, one in measures.items() if one.norm > 0)
    found: list[tuple[str, str]] = []
    for i, (norm, name) in enumerate(ordered):
        for larger, other in ordered[i + 1 :]:
            if larger > norm * (1 + SAME) or len(found) == _PAIRS:
                break
            one, two = measures[name].norms, measures[other].norms
            if one.keys() == two.keys() and all(abs(one[m] - two[m]) <= SAME * (one[m] + norm / 100) for m in one):
                found.append((name, other))
    return found
