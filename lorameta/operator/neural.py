"""The neural operator: a learned score of standardised distances, then softmin; fitted without reading an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lorameta.errors import UsageError
from lorameta.operator.context import Context
from lorameta.operator.network import initial, packed, scores, scores_and_pullback, unpacked
from lorameta.operator.normalized import normalized, standardised
from lorameta.operator.softmin import softmin
from lorameta.operator.uniform import uniform

if TYPE_CHECKING:
    from lorameta.bank import AdapterBank

#: During the fit the network, a function of one number, is evaluated at so many quantiles of the z-scores and
#: interpolated linearly between them: N² pairs then cost N² interpolations instead of N² passes through the network.
KNOTS = 512

Weigh = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class NeuralOperator:
    """w = softmin(f(z) / T), with z the standardised distances and f a network of one input and one output.

    f is applied to each entry alone, so the operator is of no fixed size and permuting the bank permutes the weights.

    Attributes
    ----------
    parameters : mapping of str to numpy.ndarray
        See :mod:`lorameta.operator.network`.
    errors : mapping of str to float
        Mean relative squared error of leave-one-out reconstruction on what it was fitted to, with ``uniform``
        weights, with ``normalized`` ones (T = 1) and with this operator (``neural``); 1 is as bad as the adapter 0.

    References
    ----------
    "Neural" in arXiv 2507.01806. There the layers are 4,000 wide and trained by Adam on the flattened weights of all
    pairs at once, here they are narrow and the same loss is computed from the Gram matrix.
    """

    parameters: Mapping[str, np.ndarray]
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Units of each hidden layer."""
        return len(self.parameters["output.weight"])

    def weights(self, distances: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
        """Mixing weights of a row of distances.

        Parameters
        ----------
        distances : numpy.ndarray of shape (N,), finite
        temperature : float
            In [0, inf], see :func:`lorameta.operator.softmin.softmin`; 1 is what it was fitted with.

        Returns
        -------
        numpy.ndarray of shape (N,), float64
            On the simplex; uniform if all distances are equal.
        """
        # Equal distances get equal scores by construction: what BLAS makes of a row depends on the rows beside it.
        values, place = np.unique(standardised(distances), return_inverse=True)
        return softmin(scores(self.parameters, values)[place], temperature)


def fit_neural(
    distance_matrix: np.ndarray, gram: np.ndarray, *, width: int = 32, iterations: int = 200, seed: int = 0
) -> NeuralOperator:
    """Fit the operator so that each adapter of a bank is rebuilt from the others as well as may be.

    Minimises the mean over i of ‖Σ_{j≠i} wⱼ(dᵢ) Mⱼ − Mᵢ‖² / ‖Mᵢ‖², where M are the updates and dᵢ the distances from
    dataset i to the others. The norms come from the Gram matrix alone, so memory is a few N × N matrices whatever the
    size of the adapters. L-BFGS from a start at which f(z) ≈ z, that is, from the normalized operator; so what is
    fitted is at least as good on the bank itself, which says nothing about other datasets: see :func:`cross_validate`.
    The same input gives the same operator.

    Parameters
    ----------
    distance_matrix : numpy.ndarray of shape (N, N)
        Row i: from dataset i, as the target, to all. The diagonal is not used. N ≥ 3.
    gram : numpy.ndarray of shape (N, N)
        ⟨Mᵢ, Mⱼ⟩, see :func:`lorameta.combiner.gram.gram`. An adapter of norm 0 is no target.
    width : int
        Units of each of the two hidden layers.
    iterations : int
        Of L-BFGS, at most.
    seed : int
        Of the random start of the hidden layers.

    Returns
    -------
    NeuralOperator

    Raises
    ------
    UsageError
        Shapes that do not fit, numbers that are not finite, fewer than three adapters.

    Examples
    --------
    Six adapters on a line, near ones alike: what is fitted rebuilds them better than softmin of the distances.

    >>> places = np.arange(6.0)
    >>> D = np.abs(np.subtract.outer(places, places))
    >>> operator = fit_neural(D, np.exp(-D / 2))
    >>> operator.errors["neural"] < operator.errors["normalized"] < operator.errors["uniform"]
    True
    >>> int(operator.weights(D[0, 1:]).argmax())  # the nearest of the others
    0
    """
    from scipy.optimize import minimize

    D, G = _checked(distance_matrix, gram)
    if width < 1 or iterations < 1:
        raise UsageError(f"width and iterations must be at least 1; got {width} and {iterations}")
    problem = FitProblem(D, G)
    start = initial(width, problem.knots, np.random.default_rng(seed))

    def objective(vector: np.ndarray) -> tuple[float, np.ndarray]:
        return problem.value_and_gradient(unpacked(vector, start))

    found = minimize(objective, packed(start), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    operator = NeuralOperator(unpacked(found.x, start))
    ways: dict[str, Weigh] = {"uniform": uniform, "normalized": normalized, "neural": operator.weights}
    errors = {name: _mean(reconstruction_errors(leave_one_out(D, way), G)) for name, way in ways.items()}
    return NeuralOperator(operator.parameters, errors)


def weigh(context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Weigh by the network that was given, or else by the one that the bank keeps for this distance."""
    operator = _fitted(context.require_bank(), context.distance, context.options)
    details = {f"fit_error_{name}": round(value, 4) for name, value in operator.errors.items()}
    return operator.weights(context.distances, temperature=context.temperature), details


def require(bank: AdapterBank, distance: str, options: Mapping[str, Any]) -> None:
    """Raise BankError if nothing was given and the bank has no network for this distance."""
    _fitted(bank, distance, options)


def _fitted(bank: AdapterBank, distance: str, options: Mapping[str, Any]) -> NeuralOperator:
    from lorameta.operator.neural_file import load

    given = options.get("fitted")
    return load(bank, distance).operator if given is None else given


def leave_one_out(distance_matrix: np.ndarray, weigh: Weigh) -> np.ndarray:
    """Return the weights that each dataset of a bank gives to the others: shape (N, N), the diagonal 0.

    Parameters
    ----------
    distance_matrix : numpy.ndarray of shape (N, N)
    weigh : callable
        distances (N - 1,) → weights (N - 1,)
    """
    weights = np.zeros(distance_matrix.shape)
    others = ~np.eye(len(weights), dtype=bool)
    for row, mask in enumerate(others):
        weights[row, mask] = weigh(distance_matrix[row, mask])
    return weights


def reconstruction_errors(weights: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """‖Σⱼ wᵢⱼ Mⱼ − Mᵢ‖² / ‖Mᵢ‖² of every row, from the Gram matrix; NaN where Mᵢ is 0.

    Parameters
    ----------
    weights : numpy.ndarray of shape (N, N)
        Row i: the weights that are to give adapter i.
    gram : numpy.ndarray of shape (N, N)

    Returns
    -------
    numpy.ndarray of shape (N,), float64
    """
    squares = np.diag(gram)
    errors = ((weights @ gram) * weights).sum(axis=1) - 2 * (weights * gram).sum(axis=1) + squares
    return np.divide(np.maximum(errors, 0.0), squares, out=np.full(len(squares), np.nan), where=squares > 0)


def cross_validate(
    distance_matrix: np.ndarray, gram: np.ndarray, *, folds: int = 5, width: int = 32, iterations: int = 200,
    seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Reconstruction errors of datasets that the operator was not fitted to.

    Each fold is rebuilt from the adapters of the other folds, by the operator that was fitted to those.

    Parameters
    ----------
    distance_matrix, gram, width, iterations, seed
        See :func:`fit_neural`; the seed draws the folds as well.
    folds : int
        From 2 to N; with fewer than three adapters outside a fold there is nothing to fit, UsageError.

    Returns
    -------
    dict of str to float
        As ``NeuralOperator.errors``; the baselines have the same, smaller banks.
    """
    D, G = _checked(distance_matrix, gram)
    if not 2 <= folds <= len(D):
        raise UsageError(f"folds must be from 2 to the {len(D)} adapters; got {folds}")
    order = np.random.default_rng(seed).permutation(len(D))
    found: dict[str, list[float]] = {"uniform": [], "normalized": [], "neural": []}
    for fold in range(folds):
        held, kept = np.sort(order[fold::folds]), np.sort(np.delete(order, slice(fold, None, folds)))
        inner = np.ix_(kept, kept)
        operator = fit_neural(D[inner], G[inner], width=width, iterations=iterations, seed=seed)
        for name, weigh in (("uniform", uniform), ("normalized", normalized), ("neural", operator.weights)):
            weights = np.zeros((len(D), len(D)))
            for row in held:
                weights[row, kept] = weigh(D[row, kept])
            found[name] += reconstruction_errors(weights, G)[held].tolist()
    return {name: _mean(np.array(errors)) for name, errors in found.items()}


class FitProblem:
    """The loss of a fit and its gradient."""

    def __init__(self, D: np.ndarray, G: np.ndarray) -> None:
        n = len(D)
        self.others = ~np.eye(n, dtype=bool)
        self.pairs = np.concatenate([standardised(D[row, mask]) for row, mask in enumerate(self.others)])
        unique = np.unique(self.pairs)
        self.knots = unique if len(unique) <= KNOTS else np.unique(np.quantile(unique, np.linspace(0, 1, KNOTS)))
        if len(self.knots) == 1:
            self.knots = np.append(self.knots, self.knots[0] + 1.0)
        self.left = np.clip(np.searchsorted(self.knots, self.pairs, side="right") - 1, 0, len(self.knots) - 2)
        self.share = (self.pairs - self.knots[self.left]) / np.diff(self.knots)[self.left]
        targets = np.diag(G) > 0
        self.G = G
        self.scale = np.divide(1.0, np.diag(G) * max(targets.sum(), 1), out=np.zeros(n), where=targets)

    def value_and_gradient(self, parameters: Mapping[str, np.ndarray]) -> tuple[float, np.ndarray]:
        """Return the objective and its gradient by each parameter."""
        values, pullback = scores_and_pullback(parameters, self.knots)
        exponents = np.full(self.G.shape, -np.inf)
        exponents[self.others] = -((1 - self.share) * values[self.left] + self.share * values[self.left + 1])
        weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        mixed = weights @ self.G
        errors = (mixed * weights).sum(axis=1) - 2 * (weights * self.G).sum(axis=1) + np.diag(self.G)
        by_weight = 2 * (mixed - self.G) * self.scale[:, None]
        by_score = -weights * (by_weight - (weights * by_weight).sum(axis=1, keepdims=True))
        flow, size = by_score[self.others], len(self.knots)
        by_value = np.bincount(self.left, (1 - self.share) * flow, size)
        by_value += np.bincount(self.left + 1, self.share * flow, size)
        return float(errors @ self.scale), packed(pullback(by_value))


def _mean(errors: np.ndarray) -> float:
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")


def _checked(distance_matrix: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    D, G = np.asarray(distance_matrix, dtype=np.float64), np.asarray(gram, dtype=np.float64)
    if D.ndim != 2 or D.shape[0] != D.shape[1] or D.shape != G.shape:
        raise UsageError(f"distances {D.shape} and Gram matrix {G.shape} must be square and of one size")
    if len(D) < 3:
        raise UsageError(f"the neural operator is fitted to three or more adapters; the bank has {len(D)}")
    if not np.isfinite(D[~np.eye(len(D), dtype=bool)]).all() or not np.isfinite(G).all():
        raise UsageError("distances (off the diagonal) and Gram matrix must be finite")
    if not (np.diag(G) > 0).any():
        raise UsageError("every adapter is zero, so there is nothing to fit to")
    return D, G
