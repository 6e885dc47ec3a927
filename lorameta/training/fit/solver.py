"""What both fits share: how answers are scored, the minimiser, and the cut of a fitted update to a low rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lorameta.training.fit.states import AnswerStates

#: Largest number of directions of the features that a fit may use; the strongest are kept.
DIRECTIONS = 1024
ITERATIONS = 60
#: Steps that L-BFGS remembers: beside so small an objective, ten cost more than they save.
REMEMBERED = 5

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


class RowScores(NamedTuple):
    """How well the answers of some rows are predicted.

    Attributes
    ----------
    loss : numpy.ndarray
        Negative log-likelihood of each answer token in nats.
    right : numpy.ndarray of bool
        Whether it is the most likely token of the whole vocabulary.
    rows : numpy.ndarray
        The row of each token.
    """

    loss: np.ndarray
    right: np.ndarray
    rows: np.ndarray

    def mean_loss(self) -> float:
        """Return the mean over the tokens."""
        return float(self.loss.mean())

    def exact_match(self) -> float:
        """Return the share of the rows whose answer greedy decoding would give, token by token and with its end."""
        wrong = np.unique(self.rows[~self.right])
        return 1.0 - len(wrong) / len(np.unique(self.rows))


def predict(states: AnswerStates) -> RowScores:
    """Return the loss and greedy choice at each position.

    If every token of an answer is the most likely one behind those before it, greedy decoding gives that answer, and
    otherwise it does not: exact match needs no generation.
    """
    top = np.maximum(states.logits.max(axis=1), states.rest_max)
    total = np.log(np.exp(states.logits - top[:, None]).sum(axis=1) + np.exp(states.rest - top)) + top
    gold = states.logits[np.arange(len(states.gold)), states.gold]
    right = (states.logits.argmax(axis=1) == states.gold) & (gold > states.rest_max)
    return RowScores((total - gold).astype(np.float64), right, states.rows)


def spread(x: np.ndarray) -> np.ndarray:
    """Standard deviation of each dimension; 1 where it does not vary."""
    sd = x.std(axis=0, dtype=np.float64)
    return np.where(sd > 1e-6 * sd.max(initial=1e-30), sd, 1.0).astype(np.float32)


def minimise(
    objective: Objective, start: np.ndarray, *, iterations: int = ITERATIONS, deadline: float | None = None
) -> np.ndarray:
    """Minimise by L-BFGS until it converges, after `iterations`, or at `deadline` (of ``time.perf_counter``)."""
    import torch
    from scipy.optimize import minimize

    def stop(_: np.ndarray) -> None:
        if deadline is not None and time.perf_counter() > deadline:
            raise StopIteration

    options = {"maxiter": iterations, "maxcor": REMEMBERED, "ftol": 1e-6, "gtol": 1e-7}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the products are small: two threads wait for each other longer than they work
    try:
        found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", callback=stop, options=options)
    finally:
        torch.set_num_threads(threads)
    return np.asarray(found.x, dtype=np.float32).reshape(start.shape)


def directions(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates Z (n, k) of the features' rows, and the orthonormal directions V (k, m): Z V are the
    features.

    A penalty on the coefficients of Z is the same one on those of the features, where k is min(n, m): the minimiser
    lies in the span of the rows. Directions with next to no variation are left out.
    """
    n, m = features.shape
    if n >= m:
        values, vectors = np.linalg.eigh(np.asarray(features.T @ features, dtype=np.float64))
    else:
        values, vectors = np.linalg.eigh(np.asarray(features @ features.T, dtype=np.float64))
    keep = np.flatnonzero(values > 1e-6 * max(float(values[-1]), 1e-30))[::-1][:DIRECTIONS]
    values, vectors = values[keep], vectors[:, keep]
    if n < m:
        vectors = features.T @ (vectors / np.sqrt(values))
    V = np.asarray(vectors.T, dtype=np.float32)
    return features @ V.T, V


def subspace(features: np.ndarray, coefficients: np.ndarray, rank: int) -> np.ndarray:
    """Return the directions Q (k, rank), orthonormal, in which coefficients of that rank come closest to the given
    ones.

    Closest in what they do to the data: of all matrices Θ of that rank, ‖features (coefficients − Θ)‖ is smallest for
    one whose columns lie in the span of Q.
    """
    done = np.asarray(features @ coefficients, dtype=np.float64)
    if done.shape[1] <= done.shape[0]:
        V = np.linalg.eigh(done.T @ done)[1][:, ::-1][:, :rank]
    else:
        V = done.T @ np.linalg.eigh(done @ done.T)[1][:, ::-1][:, :rank]
    return np.asarray(np.linalg.qr(coefficients.astype(np.float64) @ V)[0], dtype=np.float32)
