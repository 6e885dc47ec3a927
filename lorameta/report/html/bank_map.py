"""The places of the datasets of a bank, and of a new one among them, in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank

#: Adapters that are drawn: the nearest, of a bank that has more.
MOST = 150


def bank_map(report: Mapping[str, Any], bank: AdapterBank) -> dict[str, Any]:
    """Lay out a bank and the dataset that was compared with it by classical scaling of their distances.

    Parameters
    ----------
    report : mapping
        Of a mixture: ``distance``, ``distances``, ``weights``.
    bank : AdapterBank

    Returns
    -------
    dict
        JSON-able: ``ids``, ``points`` (of these, then of the dataset), ``weights``, ``nearest``, the three nearest ids,
        and ``share``, how much of what the distances span two axes carry.
    """
    from lorameta.distance import distance_matrix
    from lorameta.figures.mds import classical_mds

    own: Mapping[str, float] = report["distances"]
    near = sorted(own, key=lambda name: own[name])
    ids = [name for name in bank.ids if name in set(near[:MOST])]
    matrix = np.zeros((len(ids) + 1, len(ids) + 1))
    matrix[:-1, :-1] = distance_matrix(bank.summaries.select(ids), report["distance"])
    matrix[-1, :-1] = matrix[:-1, -1] = [own[name] for name in ids]
    points, share = classical_mds(matrix, min(2, len(matrix)))
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    return {
        "ids": ids,
        "points": [[round(float(x), 5), round(float(y), 5)] for x, y in points],
        "weights": [abs(float(report["weights"].get(name, 0.0))) for name in ids],
        "nearest": near[:3],
        "share": round(share, 4),
    }
