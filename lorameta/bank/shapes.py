"""Shapes of modules across the adapters of a bank: all must be those of one base."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from lorameta.bank.scan import Layout


def odd_shapes(layouts: Mapping[str, Layout]) -> list[tuple[str, str]]:
    """Return the modules whose shape differs from that in most other adapters, as id and what is wrong."""
    shapes: dict[str, dict[tuple[int, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, layout in layouts.items():
        for module, (_, d_out, d_in, _) in layout.items():
            shapes[module][d_out, d_in].append(name)
    problems = []
    for module, found in sorted(shapes.items()):
        usual = max(found, key=lambda shape: len(found[shape]))
        for shape, having in found.items():
            if shape != usual:
                problems += [(name, f"{module} is {shape}, that of the others {usual}") for name in having]
    return problems
