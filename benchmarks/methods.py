"""The ways of getting an adapter for a task that the study compares, and what each needs from the bank."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh

from lorameta.bank import AdapterBank
from lorameta.distance import DISTANCES
from lorameta.operator import effective_number, mixing_weights
from lorameta.operator.normalized import standardised

#: Distances that the study tries beside those of the library: token histograms of one side of the rows alone, and the
#: loss of each adapter on a few labelled rows of the task (16 rows of its train part, N forward passes).
TRIED = ("js_answers", "js_prompts", "loss")
#: Sums of two distances, each standardised over the row: words and meaning together.
SUMS = (("js", "cosine"), ("js", "gaussian"), ("js", "energy"))
PAPER = ("attentional", "normalized", "neural")
#: Groups that are measured in both settings; the rest, which explain, only where one adapter is left out.
MAIN = ("ends", "baselines", "grid")
SHUFFLES = 3
#: Hidden units of the fitted networks; the paper's code has 4,000.
NEURAL_WIDTH = 32


@dataclass(frozen=True)
class Method:
    """One row of the study.

    Attributes
    ----------
    kind : str
        "base", "few-shot", "fine-tuned", "random", "hindsight", "mix" or "search".
    distance, operator, temperature, top_k, combiner
        As in `lorameta.generate_adapter`; the combiner "sum" is the exact sum, not cut to a rank.
    scale : float or "match"
        Factor on the mixed update; "match" gives it the weighted mean of the adapters' norms.
    candidates : int, optional
        Only the so many nearest by JS take part.
    shuffle : int, optional
        Seed of a permutation of the weights over the adapters: the same profile of weights on the wrong adapters.
    """

    name: str
    kind: str = "mix"
    distance: str = "js"
    operator: str = "uniform"
    temperature: float = 1.0
    top_k: int | None = None
    combiner: str = "delta"
    scale: float | str = 1.0
    candidates: int | None = None
    shuffle: int | None = None
    group: str = "grid"


def catalogue() -> list[Method]:
    """Every method, in the order of the tables."""
    names = list(DISTANCES)
    M = Method
    grid = [
        M(f"{operator} {distance}" + (" (factor)" if combiner == "factor" else ""), "mix", distance, operator,
          combiner=combiner)
        for distance in names for operator in PAPER for combiner in ("delta", "factor")
    ]  # fmt: skip
    return [
        M("base", "base", group="ends"),
        M("few-shot prompt", "few-shot", group="ends"),
        M("fine-tuned", "fine-tuned", group="ends"),
        M("random adapter", "random", group="baselines"),
        M("uniform", group="baselines"),
        M("uniform (factor)", combiner="factor", group="baselines"),
        M("best single in hindsight", "hindsight", group="baselines"),
        *(M(f"nearest {d}", "mix", d, "nearest", group="baselines") for d in names),
        *grid,
        M("sparse", "mix", "sparse", "sparse"),
        M("sparse (factor)", "mix", "sparse", "sparse", combiner="factor"),
        *(M("trial js" + name, "mix", "loss", "normalized", 0.25, candidates=20, combiner=combiner)
          for combiner, name in (("delta", ""), ("factor", " (factor)"))),
        M("search js", "search", "js", "search"),
        # What the winner owes to what.
        *(M(f"normalized {d} T={t:g}", "mix", d, "normalized", t, group="temperature")
          for d in ("js", "gaussian") for t in (2.0, 0.5, 0.25, 0.12)),
        *(M(f"normalized {d} T={t:g} (factor)", "mix", d, "normalized", t, combiner="factor", group="temperature")
          for d in ("js", "cosine") for t in (2.0, 0.5)),
        *(M(f"normalized js k={k}", "mix", "js", "normalized", 1.0, k, group="top-k") for k in (2, 4, 8, 20)),
        *(M(f"{o} sum", "mix", "js", o, combiner="sum", group="rank") for o in ("uniform", "normalized")),
        *(M(f"{o} x{c}", "mix", "js", o, scale=c, group="norm")
          for o in ("uniform", "normalized") for c in (0.5, 1.5, 2.0, 3.0, "match")),
        *(M(f"normalized js k=8 x{c}", "mix", "js", "normalized", 1.0, 8, scale=c, group="norm")
          for c in (1.5, "match")),
        M("normalized cosine x0.5", "mix", "cosine", "normalized", scale=0.5, group="norm"),
        *(M(f"{o} js shuffled {s}", "mix", "js", o, shuffle=s, group="shuffled")
          for o in ("normalized", "nearest") for s in range(SHUFFLES)),
        *(M(f"{o} {d}", "mix", d, o, group="other distances")
          for d in TRIED for o in ("nearest", "normalized")),
        *(M(f"normalized {a}+{b}", "mix", f"{a}+{b}", "normalized", group="other distances") for a, b in SUMS),
        *(M(f"normalized {d} T={t:g}", "mix", d, "normalized", t, group="other distances")
          for d in ("js_answers", "loss") for t in (0.5, 0.25)),
        *(M(f"{o} loss of 20", "mix", "loss", o, t, candidates=20, group="other distances")
          for o, t in (("nearest", 1.0), ("normalized", 0.5))),
        *(M(f"normalized js_answers T={t:g}{name}", "mix", "js_answers", "normalized", t, combiner=combiner,
            group="other distances")
          for t in (2.0, 4.0) for combiner, name in (("delta", ""), ("factor", " (factor)"))),
        M("normalized js_answers (factor)", "mix", "js_answers", "normalized", combiner="factor",
          group="other distances"),
        M("normalized js_answers+cosine (factor)", "mix", "js_answers+cosine", "normalized", combiner="factor",
          group="other distances"),
        M("normalized loss of 8 T=0.25", "mix", "loss", "normalized", 0.25, candidates=8, group="other distances"),
    ]  # fmt: skip


@dataclass
class Tables:
    """What the methods look things up in; rows are tasks as targets, columns the bank's adapters.

    Attributes
    ----------
    ids, sources : tuple of str
    distances : dict of name to (N, N)
    gram : (N, N), ⟨ΔW_i, ΔW_j⟩ over all modules
    neural : dict of (distance, fold) to a fitted operator; the fold of a task is the one that its fit left out
    folds : (N,)
    prototypes : (N, d), means of the sentence embeddings
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    distances: dict[str, np.ndarray]
    gram: np.ndarray
    folds: np.ndarray
    prototypes: np.ndarray
    neural: dict[tuple[str, int], Any] = field(default_factory=dict)

    def allowed(self, task: int, setting: str) -> np.ndarray:
        """Indices of the adapters that a task may use: not its own, in "source" none of its source either."""
        same = np.array([s == self.sources[task] for s in self.sources])
        return np.flatnonzero(~same if setting == "source" else np.arange(len(self.ids)) != task)

    def weights(self, method: Method, task: int, setting: str) -> np.ndarray:
        """Mixing weights (N,) of a method for a task; 0 for what it may not use."""
        allowed = self.allowed(task, setting)
        if method.candidates is not None:
            order = np.argsort(self.distances["js"][task, allowed], kind="stable")[: method.candidates]
            allowed = np.sort(allowed[order])
        weights = np.zeros(len(self.ids))
        if "+" in method.distance:
            row = sum(standardised(self.distances[name][task, allowed]) for name in method.distance.split("+"))
            weights[allowed] = mixing_weights(row - row.min(), method.operator, temperature=method.temperature)
        elif method.operator == "sparse":
            from lorameta.operator.sparse import sparse

            weights[allowed] = sparse(self.prototypes[task], self.prototypes[allowed])
        elif method.operator == "neural":
            fitted = self.neural[method.distance, int(self.folds[task])]
            weights[allowed] = fitted.weights(self.distances[method.distance][task, allowed])
        else:
            weights[allowed] = mixing_weights(
                self.distances[method.distance][task, allowed],
                method.operator,
                temperature=method.temperature,
                top_k=method.top_k and min(method.top_k, len(allowed)),
            )
        if method.shuffle is not None:
            seed = int.from_bytes(hashlib.sha256(f"{method.shuffle} {self.ids[task]}".encode()).digest()[:8], "big")
            weights[allowed] = np.random.default_rng(seed).permutation(weights[allowed])
        return weights

    def scale(self, method: Method, weights: np.ndarray) -> float:
        if method.scale != "match":
            return float(method.scale)
        norm = np.sqrt(max(weights @ self.gram @ weights, 1e-30))
        return float(np.abs(weights) @ np.sqrt(np.diag(self.gram)) / norm)


class Mixer:
    """Updates ΔW of any mixture over a bank, from the stacked factors of all its adapters."""

    def __init__(self, bank: AdapterBank) -> None:
        self.ids, self.hashes = bank.ids, [bank.records[i].sha256 for i in bank.ids]
        adapters = [bank[i] for i in bank.ids]
        self.factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for module in sorted(adapters[0].modules):
            pairs = [adapter.modules[module] for adapter in adapters]
            B = np.stack([pair.scaling * pair.B for pair in pairs])
            A = np.stack([pair.A for pair in pairs])
            self.factors[module] = torch.from_numpy(B), torch.from_numpy(A)
        self.rank = adapters[0].rank

    def update(self, weights: np.ndarray, combiner: str, scale: float = 1.0) -> dict[str, torch.Tensor]:
        """Module → ΔW. "delta" is the best approximation of the rank of the bank, by the eigenvectors of the smaller
        Gram matrix of the sum: what `lorameta.combiner.delta` gives, which a test asserts."""
        used = np.flatnonzero(weights)
        w = torch.from_numpy(weights[used].astype(np.float32))
        made = {}
        for module, (all_B, all_A) in self.factors.items():
            B, A = all_B[used], all_A[used]
            if combiner == "factor":
                made[module] = scale * (torch.tensordot(w, B, 1) @ torch.tensordot(w, A, 1))
                continue
            wide = B.permute(1, 0, 2).reshape(B.shape[1], -1)
            total = wide @ (w[:, None, None] * A).reshape(-1, A.shape[2])
            if combiner == "delta" and len(used) > 1:
                total = best_rank(total, self.rank)
            made[module] = scale * total
        return made

    def key(self, weights: np.ndarray, combiner: str, scale: float) -> str:
        """Hash of all that decides an update."""
        used = [(self.hashes[i], f"{weights[i]:.9e}") for i in np.flatnonzero(weights)]
        if len(used) == 1:
            combiner = "delta"  # one adapter is itself by any combiner (its weight is 1)
        return hashlib.sha256(json.dumps([used, combiner, f"{scale:.9e}"]).encode()).hexdigest()[:24]


def best_rank(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    """The best approximation of `rank` in Frobenius norm (Eckart, Young 1936)."""
    wide = matrix.shape[0] <= matrix.shape[1]
    M = (matrix if wide else matrix.T).double()
    n = len(M)
    vectors = torch.from_numpy(eigh((M @ M.T).numpy(), subset_by_index=(n - rank, n - 1))[1])
    cut = (vectors @ (vectors.T @ M)).float()
    return cut if wide else cut.T.contiguous()


def source_folds(sources: tuple[str, ...], count: int = 8, seed: int = 0) -> np.ndarray:
    """A fold for every task; tasks of one source share theirs, so that a fit never sees the source it is tried on."""
    names = sorted(set(sources))
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda name: -sources.count(name))
    sizes, fold = [0] * count, {}
    for name in names:
        fold[name] = int(np.argmin(sizes))
        sizes[fold[name]] += sources.count(name)
    return np.array([fold[source] for source in sources])


def facts(weights: np.ndarray) -> dict[str, float]:
    return {"effective_number": round(effective_number(weights), 3), "largest": round(float(weights.max()), 4)}
