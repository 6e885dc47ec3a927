"""The sparse operator: the signed weights that rebuild the dataset's mean embedding from few others."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorameta.errors import LorametaError, UsageError
from lorameta.operator.context import Context

#: Added to the squared distances' matrix, relative to its mean diagonal: one minimiser, also among equal prototypes.
RIDGE = 1e-9
#: Large enough that least squares does not run wild, small enough that a weight may still be negative.
PENALTY = 0.1


def sparse(z: np.ndarray, prototypes: np.ndarray, *, penalty: float = PENALTY) -> np.ndarray:
    """argmin over Σ w = 1 of ‖z − Σ wᵢ zᵢ‖² + λ ‖w‖₁.

    Since the weights sum to 1, ‖w‖₁ = 1 + 2 Σ max(−wᵢ, 0): the penalty falls on negative weights alone. λ = 0 is least
    squares, which is unstable as soon as prototypes are nearly dependent; from some λ on no weight is negative, and the
    mixture is the point of the convex hull that is nearest to z. There is no temperature: z's own distances to the
    prototypes and to their combinations decide.

    Solved by an active-set method: the weights that are not 0 and their signs are guessed, their linear system is
    solved, a weight that would change its sign is dropped, one that violates the conditions of optimality is added.
    Each step lowers the objective, so no guess recurs; the result meets the conditions of optimality up to rounding.

    Parameters
    ----------
    z : numpy.ndarray of shape (d,), finite
        The dataset's prototype: the mean of its sentence embeddings.
    prototypes : numpy.ndarray of shape (N, d), finite
        Those of the bank. Equal ones get equal weights.
    penalty : float
        λ ≥ 0, in the unit of a squared distance between prototypes (means of unit vectors: at most 4).

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        Sum 1; may be negative, and most are 0.

    References
    ----------
    arXiv 2410.09908, there after a choice of nearest neighbours and with λ = 1 or 10; with this constraint the problem
    is that of sparse portfolios, Brodie et al., PNAS 106 (2009).

    Examples
    --------
    >>> sparse(np.array([0.5, 0.5, 0.0]), np.eye(3), penalty=0.01).round(3)  # half of two prototypes
    array([0.5, 0.5, 0. ])
    """
    z, prototypes = np.asarray(z, dtype=np.float64), np.asarray(prototypes, dtype=np.float64)
    problems = []
    if prototypes.ndim != 2 or z.shape != prototypes.shape[1:] or len(prototypes) == 0:
        problems.append(f"a prototype {z.shape} cannot be rebuilt from prototypes {prototypes.shape}")
    if not np.isfinite(z).all() or not np.isfinite(prototypes).all():
        problems.append("prototypes must be finite")
    if not 0 <= penalty < np.inf:
        problems.append(f"the penalty must be a finite number from 0 up; got {penalty}")
    if problems:
        raise UsageError("; ".join(problems))
    # With Σ w = 1, z − Σ wᵢ zᵢ = −Σ wᵢ (zᵢ − z), so the objective is wᵀ P w + λ ‖w‖₁.
    centred = prototypes - z
    P = centred @ centred.T
    P[np.diag_indices_from(P)] += RIDGE * float(np.trace(P)) / len(P) or 1.0
    if penalty == 0:
        free = np.linalg.solve(P, np.ones(len(P)))
        return np.asarray(free / free.sum())
    return _active_set(P, float(penalty))


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Rebuild the dataset's mean embedding from those of the nearest adapters' datasets."""
    prototypes, summary = context.require_bank().summaries.means, context.summary
    if prototypes is None or summary is None or summary.mean is None:
        raise UsageError("the operator 'sparse' needs the means of sentence embeddings")
    near = np.sort(context.candidates)
    penalty = float(context.options["penalty"])
    found = sparse(summary.mean, prototypes[near], penalty=penalty)
    return context.spread(near, found), {"penalty": penalty, "candidates": len(near)}


def _active_set(P: np.ndarray, penalty: float) -> np.ndarray:
    n = len(P)
    weights = np.zeros(n)
    support = [int(np.argmin(np.diag(P)))]
    weights[support] = 1.0
    signs = np.ones(n)
    tolerance = 1e-12 * (penalty + 2 * float(np.abs(P).max()))
    for _ in range(100 + 20 * n):
        target, multiplier = _on_support(P, support, signs[support], penalty)
        step = target - weights[support]
        crossing = target * signs[support] <= 0
        if crossing.any():
            # Go as far as the first weight that reaches 0, and leave it there.
            ratios = np.full(len(support), np.inf)
            ratios[crossing] = weights[support][crossing] / -step[crossing]
            first = int(np.argmin(ratios))
            weights[support] += float(ratios[first]) * step
            weights[support.pop(first)] = 0.0
            continue
        weights[support] = target
        slope = 2 * P @ weights + multiplier
        slope[support] = 0.0
        worst = int(np.argmax(np.abs(slope)))
        if abs(slope[worst]) <= penalty + tolerance:
            return weights / weights.sum()
        signs[worst] = -np.sign(slope[worst])
        support.append(worst)
    raise LorametaError(f"the sparse weights of {n} adapters were not found; raise the penalty above {penalty}")


def _on_support(P: np.ndarray, support: list[int], signs: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Return the minimiser of wᵀ P w + λ ⟨signs, w⟩ with Σ w = 1 on the support alone, and its constraint's
    multiplier."""
    size = len(support)
    system = np.ones((size + 1, size + 1))
    system[:size, :size] = 2 * P[np.ix_(support, support)]
    system[size, size] = 0.0
    found = np.linalg.solve(system, np.append(-penalty * signs, 1.0))
    return found[:size], float(found[size])
