"""The readout in the last block: an update of its down_proj, fitted through the final norm and the head."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.training.fit.solver import directions, minimise, spread, subspace
from lorameta.training.fit.states import POSITIONS, AnswerStates, Readout, vocabulary_logits

#: Strongest first; of coefficients in units of the states' own size, hence of any base.
PENALTIES = (5.0, 1.0, 0.2, 0.04)
#: Tokens outside the answers that are added in each round, and positions by which they are chosen.
RIVALS, LOOKED_AT = 300, 512
#: Smallest mean probability of a token that is added.
SHARE = 3e-6
#: Iterations before rivals are looked for, and in each round behind. Twice as many fit the rows better, and test rows
#: no better.
FIRST, EACH = 10, 20


class BlockFit:
    """The fit of ΔW in h + ΔW a, h the state behind the last block and a the input of its ``down_proj``.

    It moves all logits of the vocabulary, through the final norm and the head as they are, so that it also learns what
    is common to answers that it has not seen. The loss is formed over the tokens of the answers and those that rival
    them, which are looked for again after each round; the rest of the vocabulary counts with the sum it had before.

    Parameters
    ----------
    states : AnswerStates
        Of the rows to learn from, with `h` and `a`.
    readout : Readout
    modules : mapping of str to LoraPair
        What is attached to the model; only an update of the head is looked at.
    """

    penalties = PENALTIES

    def __init__(self, states: AnswerStates, readout: Readout, modules: Mapping[str, LoraPair]) -> None:
        import torch

        if states.h is None or states.a is None:
            raise ValueError("the states of the last block were not kept")
        self._states, self._readout = states, readout
        self._pair = modules.get(readout.head_name)
        self._norm = copy.deepcopy(readout.norm).float()
        self._sd = spread(states.a)
        self.features, self._directions = directions(states.a / self._sd)
        self._size = float(np.sqrt(np.mean(np.square(states.h, dtype=np.float64))))
        self._rivals = np.zeros(0, dtype=np.int64)
        self._look(torch.from_numpy(states.x))

    def start(self) -> np.ndarray:
        """Return no update."""
        assert self._states.h is not None
        return np.zeros((self.features.shape[1], self._states.h.shape[1]), dtype=np.float32)

    def solve(self, penalty: float, start: np.ndarray, deadline: float | None = None) -> np.ndarray:
        """Return the coefficients Θ (k, d), in rounds: rivals that rose in one count in the next."""
        found = start if start.any() else self._minimise(self.features, start, penalty, FIRST, deadline)
        for _ in range(1 if start.any() else 2):
            assert self._states.h is not None
            self._look(self._normed(self._states.h + self._size * self.features @ found))
            found = self._minimise(self.features, found, penalty, EACH, deadline)
        return found

    def cut(
        self, coefficients: np.ndarray, rank: int, penalty: float | None = None, deadline: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the factors A (rank, m) and B (d, rank) of the update at a rank; with a penalty, B is fitted again."""
        Q = subspace(self.features, coefficients, rank)
        theta = Q.T @ coefficients
        if penalty is not None:
            theta = self._minimise(self.features @ Q, theta, penalty, EACH, deadline)
        A = (Q.T @ self._directions) / self._sd
        return A.astype(np.float32), (self._size * theta.T).astype(np.float32)

    def applied(self, states: AnswerStates, A: np.ndarray, B: np.ndarray) -> AnswerStates:
        """Return the states of any rows with the update in the last block: exact, over the whole vocabulary."""
        assert states.h is not None
        assert states.a is not None
        h = states.h + (states.a @ A.T) @ B.T
        x = self._normed(h)
        return replace(states, h=h, x=x.float().numpy(), **vocabulary_logits(self._readout, x, states.vocabulary))

    def _normed(self, h: np.ndarray) -> Any:
        """Return the input of the head behind the states h, a tensor in the dtype of the model."""
        import torch

        with torch.inference_mode():
            return self._readout.norm(torch.from_numpy(h).to(self._readout.norm.weight.dtype))

    def _look(self, x: Any) -> None:
        """Add to the rivals the tokens to which the head gives the largest share behind these inputs of it."""
        import torch

        s = self._states
        x = x[:: max(1, len(x) // LOOKED_AT)].to(self._readout.head.weight.dtype)
        total = torch.zeros(self._readout.head.weight.shape[0])
        with torch.inference_mode():
            for start in range(0, len(x), POSITIONS):
                logits = self._readout.head(x[start : start + POSITIONS]).float() * self._readout.scale
                total += logits.softmax(1).sum(0)
        total[torch.from_numpy(s.vocabulary)] = -1.0
        total[torch.from_numpy(self._rivals)] = -1.0
        count = min(RIVALS, int((total > SHARE * len(x)).sum()))
        new = np.sort(total.topk(count).indices.numpy())
        self._rivals = np.concatenate([self._rivals, new])
        tokens = np.concatenate([s.vocabulary, self._rivals])
        self._rows = torch.from_numpy(self._readout.scale * head_rows(self._readout, self._pair, tokens))
        # what is left of the rest without the rivals, at the states before the fit
        among = torch.from_numpy(s.x) @ self._rows[len(s.vocabulary) :].T
        share = np.exp(among.double().logsumexp(1).numpy() - s.rest) if len(self._rivals) else 0.0
        self._rest = (s.rest + np.log(np.maximum(1.0 - share, 1e-5))).astype(np.float32)

    def _minimise(
        self, features: np.ndarray, start: np.ndarray, penalty: float, iterations: int, deadline: float | None
    ) -> np.ndarray:
        return minimise(
            lambda theta: self.objective(theta.reshape(start.shape), features, penalty), start,
            iterations=iterations, deadline=deadline,
        )  # fmt: skip

    def objective(self, theta: np.ndarray, features: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        """Return the mean cross-entropy over answers' tokens, rivals and rest, plus penalty ‖Θ‖², and its gradient in
        Θ."""
        import torch
        from torch.nn.functional import cross_entropy

        s = self._states
        Z, gold = torch.from_numpy(features), torch.from_numpy(s.gold.astype(np.int64))
        h, rest = torch.from_numpy(s.h), torch.from_numpy(self._rest)
        leaf = torch.from_numpy(theta.astype(np.float32)).requires_grad_(True)
        loss = 0.0
        with torch.enable_grad():
            for start in range(0, len(gold), 8 * POSITIONS):
                part = slice(start, start + 8 * POSITIONS)
                logits = self._norm(h[part] + self._size * (Z[part] @ leaf)) @ self._rows.T
                whole = torch.cat([logits, rest[part, None]], dim=1)
                each = cross_entropy(whole, gold[part], reduction="sum") / len(gold)
                each.backward()
                loss += each.item()
        assert leaf.grad is not None
        gradient = leaf.grad.numpy().astype(np.float64) + 2 * penalty * theta
        return loss + penalty * float(np.vdot(theta, theta)), gradient.ravel()


def head_rows(readout: Readout, pair: LoraPair | None, tokens: np.ndarray) -> np.ndarray:
    """Return the rows of the head, with what an adapter adds to them, in float32."""
    import torch

    rows: Any = readout.head.weight.detach()[torch.from_numpy(tokens)].float().numpy()
    if pair is None:
        return np.asarray(rows)
    return np.asarray(rows + pair.scaling * pair.B[tokens] @ pair.A, dtype=np.float32)
