"""The convex problem behind `stack`: the weights of lowest cross entropy where logits are linear in them."""

from __future__ import annotations

import numpy as np


class Linearised:
    """min over w ≥ 0 of mean CE(f + Σ wᵢ Dᵢ, y) + λ/2 ‖w‖², convex since the logits are linear in w.

    Parameters
    ----------
    start : numpy.ndarray of shape (tokens, c)
        f, with the right answer in column 0.
    slopes : numpy.ndarray of shape (k, tokens, c)
        D.

    References
    ----------
    Wolpert, Stacked generalization, Neural Networks 5 (1992); Breiman, Stacked regressions, Machine Learning 24 (1996),
    for the constraint w ≥ 0.
    """

    def __init__(self, start: np.ndarray, slopes: np.ndarray) -> None:
        self.start = np.asarray(start, dtype=np.float64)
        self.slopes = np.asarray(slopes, dtype=np.float64)

    def of(self, tokens: np.ndarray) -> Linearised:
        """Return the same problem on some of the tokens."""
        return Linearised(self.start[tokens], self.slopes[:, tokens])

    def losses(self, weights: np.ndarray) -> np.ndarray:
        """Cross entropy of each token, shape (tokens,)."""
        logits = self.start + np.tensordot(weights, self.slopes, axes=1)
        top = logits.max(axis=1)
        return np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[:, 0]

    def value_and_gradient(self, weights: np.ndarray, ridge: float = 0.0) -> tuple[float, np.ndarray]:
        """Return the objective and its gradient (k,)."""
        logits = self.start + np.tensordot(weights, self.slopes, axes=1)
        top = logits.max(axis=1, keepdims=True)
        shares = np.exp(logits - top)
        total = shares.sum(axis=1, keepdims=True)
        value = float((np.log(total) + top - logits[:, :1]).mean()) + 0.5 * ridge * float(weights @ weights)
        shares /= total
        shares[:, 0] -= 1.0
        gradient = np.tensordot(self.slopes, shares, axes=2) / len(logits)
        return value, gradient + ridge * weights

    def solve(self, ridge: float, *, least: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the minimiser, shape (k,), no weight below `least`, by L-BFGS-B."""
        from scipy.optimize import minimize

        k = len(self.slopes)
        low = np.broadcast_to(np.asarray(least, dtype=np.float64), (k,))
        found = minimize(
            self.value_and_gradient, np.maximum(low, 0.0), args=(ridge,), jac=True, method="L-BFGS-B",
            bounds=[(bound, None) for bound in low], options={"maxiter": 500, "ftol": 1e-10, "gtol": 1e-7},
        )  # fmt: skip
        return np.asarray(found.x)


def cross_validated(
    problem: Linearised, owner: np.ndarray, ridge: float, *, folds: int = 4, least: float = 0.0
) -> float:
    """Return the mean loss of tokens of rows that the weights were not solved for.

    Parameters
    ----------
    problem : Linearised
    owner : numpy.ndarray of shape (tokens,)
        The row of each token; a fold holds whole rows.
    ridge : float
    folds : int
        At most as many as there are rows.
    """
    rows = np.unique(owner)
    folds = min(folds, len(rows))
    total = 0.0
    for fold in range(folds):
        held = np.isin(owner, rows[fold::folds])
        weights = problem.of(~held).solve(ridge)
        total += float(problem.of(held).losses(weights).sum())
    return total / len(owner)
