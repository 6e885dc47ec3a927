"""The readout in the head: a ridge-penalised logistic regression of the answers' tokens on the final states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lorameta.training.fit.solver import minimise, predict, spread, subspace
from lorameta.training.fit.states import AnswerStates

__all__ = ["PENALTIES", "HeadFit", "objective", "predict"]

#: Strongest first: the path of solutions is followed from there, each the start of the next.
PENALTIES = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3)


def objective(
    weights: np.ndarray, features: np.ndarray, logits: np.ndarray, rest: np.ndarray, gold: np.ndarray, penalty: float
) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of the softmax over [logits + features W, rest], plus penalty ‖W‖², and its
    gradient in W.

    Parameters
    ----------
    weights : numpy.ndarray
        W (k, v), flat or not.
    features : numpy.ndarray of shape (n, k)
    logits : numpy.ndarray of shape (n, v)
    rest : numpy.ndarray of shape (n,)
        log Σ exp of all logits that W does not change.
    gold : numpy.ndarray of shape (n,)
        Column of the right token.
    penalty : float
    """
    count = np.arange(len(gold))
    W = np.asarray(weights, dtype=features.dtype).reshape(features.shape[1], logits.shape[1])
    moved = logits + features @ W
    top = np.maximum(moved.max(axis=1), rest)
    chances = np.exp(moved - top[:, None])
    total = chances.sum(axis=1) + np.exp(rest - top)
    loss = float(np.mean(np.log(total) + top - moved[count, gold], dtype=np.float64))
    chances /= total[:, None]
    chances[count, gold] -= 1
    gradient = features.T @ chances / len(gold) + 2 * penalty * W
    return loss + penalty * float(np.vdot(W, W)), gradient.ravel().astype(np.float64)


class HeadFit:
    """The fit of the head's rows of the tokens that occur in answers, ΔE = Wᵀ / sd.

    The states are divided by their standard deviation, dimension by dimension, and neither centred nor given a bias: a
    bias is not part of a LoRA, and with centred states open answers are lost.

    Parameters
    ----------
    states : AnswerStates
        Of the rows to learn from.
    scale : float
        What the model multiplies the head's output with.
    vocabulary : int
        Rows of the head.
    """

    penalties = PENALTIES

    def __init__(self, states: AnswerStates, scale: float, vocabulary: int) -> None:
        self._states, self._scale, self._vocabulary = states, scale, vocabulary
        self._sd = spread(states.x)
        self.features = states.x / self._sd

    def start(self) -> np.ndarray:
        """Return no update."""
        return np.zeros((self.features.shape[1], self._states.logits.shape[1]), dtype=np.float32)

    def solve(self, penalty: float, start: np.ndarray, deadline: float | None = None) -> np.ndarray:
        """Return the coefficients W (d, v)."""
        s = self._states
        return minimise(
            lambda W: objective(W, self.features, s.logits, s.rest, s.gold, penalty), start, deadline=deadline
        )

    def cut(
        self, coefficients: np.ndarray, rank: int, penalty: float | None = None, deadline: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the factors A (rank, d) and B (vocabulary, rank) of the update at a rank; with a penalty, B is fitted
        again."""
        s = self._states
        Q = subspace(self.features, coefficients, rank)
        W = Q.T @ coefficients
        if penalty is not None:
            seen = self.features @ Q
            W = minimise(lambda W: objective(W, seen, s.logits, s.rest, s.gold, penalty), W, deadline=deadline)
        B = np.zeros((self._vocabulary, Q.shape[1]), dtype=np.float32)
        B[s.vocabulary] = W.T / self._scale
        return (Q.T / self._sd).astype(np.float32), B

    def applied(self, states: AnswerStates, A: np.ndarray, B: np.ndarray) -> AnswerStates:
        """Return the states of any rows with the update in the head."""
        return replace(states, logits=states.logits + self._scale * (states.x @ A.T) @ B[states.vocabulary].T)
