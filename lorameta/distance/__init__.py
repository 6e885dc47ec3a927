"""Distances: the summary of one dataset and those of a bank in, one number for every adapter out.

``js``, ``kl``, ``wasserstein`` and ``mmd`` compare token histograms; ``gaussian`` and ``cosine`` the moments of
sentence embeddings, ``sliced``, ``energy`` and ``sentence_mmd`` samples of them. To add one, write a pure function of
arrays in a file of its own, wrap it in a `Distance` that is called as the file is, in capitals, and name it in `NAMES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorameta.distance.compare import distance_matrix, distances
    from lorameta.distance.registry import Distance

    DISTANCES: dict[str, Distance]

#: Part of the summaries -> the distances that read it.
NAMES = {
    "tokens": ("js", "kl", "wasserstein", "mmd"),
    "sentence": ("gaussian", "cosine", "sliced", "energy", "sentence_mmd"),
}

__all__ = ["DISTANCES", "NAMES", "Distance", "distance_matrix", "distances"]

_HOME = {
    "Distance": "lorameta.distance.registry",
    "distance_matrix": "lorameta.distance.compare",
    "distances": "lorameta.distance.compare",
}


def __getattr__(name: str) -> Any:
    """Import what computes when it is first used: the names alone need no numpy."""
    value: Any
    if name == "DISTANCES":
        value = {
            one: getattr(import_module(f"{__name__}.{one}"), one.upper()) for part in NAMES.values() for one in part
        }
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
