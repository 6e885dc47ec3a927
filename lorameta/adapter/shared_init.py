"""Which adapters started from the same A: cosines between all pairs of a bank, from a small sketch of each adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: Mean cosine of the A's from which on adapters count as started from one. Independent starts have 0.
ALIKE = 0.2
#: Modules that are looked at, spread evenly over the adapter's, and numbers that are kept of each.
MODULES, WIDTH = 16, 512


@dataclass(frozen=True)
class SharedInit:
    """Adapters that share an initial A.

    Attributes
    ----------
    ids : tuple of str
        At least two.
    cosine : float
        Mean cosine of their A's, over pairs and the modules looked at.
    """

    ids: tuple[str, ...]
    cosine: float


def looked_at(modules: Sequence[str]) -> tuple[str, ...]:
    """Return at most `MODULES` of the modules, evenly spaced in their sorted order."""
    ordered = sorted(modules)
    places = np.linspace(0, len(ordered) - 1, min(MODULES, len(ordered))).round().astype(int)
    return tuple(ordered[i] for i in dict.fromkeys(places.tolist()))


def sketch(A: np.ndarray) -> np.ndarray:
    """Return at most `WIDTH` numbers of a factor, whose inner products estimate the cosines of whole factors.

    The numbers get random signs, always the same, and are added up in `WIDTH` sums; the result is divided by ‖A‖. The
    inner product of two sketches has the cosine as its mean and a standard error of about 1/√WIDTH, if the factors'
    weight is spread over their entries (Charikar, Chen and Farach-Colton, Finding frequent items in data streams,
    2002). A factor of no more than `WIDTH` numbers is its own sketch, and the cosine is exact.

    Parameters
    ----------
    A : numpy.ndarray
        float32, any shape.

    Returns
    -------
    numpy.ndarray of shape (min(A.size, WIDTH),), float32
    """
    flat = A.reshape(-1)
    with np.errstate(over="ignore"):
        norm = float(np.sqrt(np.dot(flat, flat)))
    if not np.isfinite(norm):  # a square is too large for float32
        flat = flat / np.abs(flat).max()
        norm = float(np.sqrt(np.dot(flat, flat)))
    if flat.size > WIDTH:
        signed = flat * _signs(flat.size)
        whole = flat.size // WIDTH * WIDTH
        flat = signed[:whole].reshape(-1, WIDTH).sum(axis=0)
        flat[: signed.size - whole] += signed[whole:]
    return flat / np.float32(norm if norm > 0 else 1.0)


def groups(sketches: Mapping[str, Sequence[np.ndarray]], layouts: Mapping[str, object]) -> list[SharedInit]:
    """Return the groups of adapters that are connected by a mean cosine of at least `ALIKE`.

    With 16 modules of 512 numbers the standard error of a mean cosine is 1/√8192 ≈ 0.011. A cosine also has to be five
    standard errors above 0, which matters for tiny adapters only: their unrelated A's are not quite orthogonal.

    Parameters
    ----------
    sketches : mapping of id to the sketches of its A's
        Of the modules :func:`looked_at`, in their order.
    layouts : mapping of id to anything hashable
        Only adapters of the same layout (modules and the shapes of their A) are compared.

    Returns
    -------
    list of SharedInit
        Largest first.
    """
    found = []
    for layout in dict.fromkeys(layouts[name] for name in sketches):
        ids = [name for name in sketches if layouts[name] == layout]
        if len(ids) < 2 or not sketches[ids[0]]:
            continue
        rows = np.stack([np.concatenate(list(sketches[name])) for name in ids])
        cosines = rows @ rows.T / np.float32(len(sketches[ids[0]]))
        found += _components(ids, cosines, max(ALIKE, 5 / float(np.sqrt(rows.shape[1]))))
    return sorted(found, key=lambda group: (-len(group.ids), group.ids))


def _components(ids: list[str], cosines: np.ndarray, threshold: float) -> list[SharedInit]:
    """Connected components of the graph whose edges are cosines of at least `threshold`; single adapters left out."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count, labels = connected_components(csr_array(cosines >= threshold), directed=False)
    found = []
    for label in range(count):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            block = cosines[np.ix_(members, members)].astype(np.float64)
            mean = float(block.sum() - np.trace(block)) / (len(members) * (len(members) - 1))
            found.append(SharedInit(tuple(sorted(ids[i] for i in members)), mean))
    return found


@lru_cache(maxsize=32)
def _signs(size: int) -> np.ndarray:
    return np.random.default_rng(size).choice(np.array([-1.0, 1.0], dtype=np.float32), size)
