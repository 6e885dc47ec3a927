"""What held-out rows decide: the penalty, the rank, where the update goes, and whether there is one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from lorameta.data import Example
from lorameta.data.split import digest_of
from lorameta.training.fit.solver import RowScores, predict
from lorameta.training.fit.states import AnswerStates

#: Of the update, unless one is asked for: smaller ones, chosen by held-out rows, did worse on test rows.
RANK = 32
#: Each row is held out once, in as many fits as there are parts, up to so many answer positions; of more, one part is
#: enough.
CROSS = 400
#: A weaker penalty is tried as long as the last one lowered the held-out loss by this share.
GAIN = 0.01
#: Of the update, tried where the whole of it raises the held-out loss: it answers more rows right, too surely.
SCALES = (0.5, 0.25)
#: The head, alone or on top, is taken only if the held-out loss falls by more than this share of the last block's:
#: llama.cpp cannot apply an update of a head that is tied to the embedding.
MARGIN = 0.05
#: Answer positions that the choices are made on at most; the last fit takes all.
POSITIONS = 2000

Factors = tuple[np.ndarray, np.ndarray]


class ReadoutFit(Protocol):
    """What :class:`HeadFit` and :class:`BlockFit` have in common."""

    @property
    def penalties(self) -> tuple[float, ...]:
        """Strongest first."""

    def start(self) -> np.ndarray:
        """Return no update."""

    def solve(self, penalty: float, start: np.ndarray, deadline: float | None = None) -> np.ndarray:
        """Return the coefficients at a penalty."""

    def cut(
        self, coefficients: np.ndarray, rank: int, penalty: float | None = None, deadline: float | None = None
    ) -> Factors:
        """Return the factors A and B at a rank."""

    def applied(self, states: AnswerStates, A: np.ndarray, B: np.ndarray) -> AnswerStates:
        """Return the states of any rows with the update."""


@dataclass(frozen=True)
class Part:
    """What was chosen for the head or for the last block.

    Attributes
    ----------
    where : {"head", "block"}
    penalty : float
    rank : int
    again : bool
        Whether B is fitted again behind the cut, as it is where a rank is asked for.
    scale : float
        What the fitted update is multiplied with.
    """

    where: str
    penalty: float
    rank: int
    again: bool
    scale: float = 1.0


@dataclass(frozen=True)
class Candidate:
    """One form of the update, and how it does on held-out rows.

    Attributes
    ----------
    parts : tuple of Part
        In the order in which they are fitted.
    scores : RowScores
    folds : list of (AnswerStates, AnswerStates)
        The rows fitted on and those held out, with the update; empty where nothing is fitted on top of it.
    """

    parts: tuple[Part, ...]
    scores: RowScores
    folds: list[tuple[AnswerStates, AnswerStates]]

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        found: dict[str, Any] = {"loss": self.scores.mean_loss(), "exact_match": self.scores.exact_match()}
        for part in self.parts:
            found[part.where] = {"penalty": part.penalty, "rank": part.rank, "scale": part.scale}
        return found


def folds_of(
    states: AnswerStates, examples: Sequence[Example], share: float, seed: int
) -> list[tuple[AnswerStates, AnswerStates]]:
    """Split rows into those fitted on and those held out, once or, up to `CROSS` answer positions, in turn; copies stay
    together.

    Parameters
    ----------
    states : AnswerStates
    examples : sequence of Example
        All that were given, of which `states` may hold a part.
    share : float
        Of the distinct rows that is held out, in (0, 0.5].
    seed : int

    Returns
    -------
    list of (AnswerStates, AnswerStates)
        Empty if there are fewer than four distinct rows.
    """
    copies: dict[bytes, list[int]] = {}
    for row in np.unique(states.rows):
        digest = hashlib.sha256(f"{seed} ".encode() + digest_of(examples[row])).digest()
        copies.setdefault(digest, []).append(int(row))
    order = [copies[digest] for digest in sorted(copies)]
    if len(order) < 4:
        return []
    parts = min(len(order), max(2, round(1 / share)))
    found = []
    for index in range(parts if len(states.rows) <= CROSS else 1):
        held = [row for rows in order[index::parts] for row in rows]
        kept = [row for part in range(parts) if part != index for rows in order[part::parts] for row in rows]
        found.append((states.of_rows(_bounded(states, kept)), states.of_rows(np.array(held))))
    return found


def _bounded(states: AnswerStates, rows: list[int]) -> np.ndarray:
    """As many of the rows as have `POSITIONS` answer positions."""
    counts = np.bincount(states.rows, minlength=max(rows) + 1)[rows]
    return np.array(rows[: max(3, int(np.searchsorted(np.cumsum(counts), POSITIONS, side="right")))])


def candidates(
    folds: list[tuple[AnswerStates, AnswerStates]],
    make: Callable[[str, AnswerStates], ReadoutFit],
    wanted: Sequence[str],
    rank: int,
    again: bool,
    deadline: float | None,
) -> dict[str, Candidate]:
    """Fit each of the wanted forms, ``block``, ``head`` and ``both``, and score it on the held-out rows.

    Parameters
    ----------
    folds : list of (AnswerStates, AnswerStates)
    make : callable
        Name of the part and states to learn from → its fit.
    wanted : sequence of str
    rank : int
    again : bool
        Fit B again behind the cut.
    deadline : float or None
        Of ``time.perf_counter``: what has not begun by then is left out, except the first.
    """
    found: dict[str, Candidate] = {}
    for name in wanted:
        if found and deadline is not None and time.perf_counter() > deadline:
            break
        found[name] = Candidate((), RowScores(*np.empty((3, 0))), folds)
        for where in ("block", "head") if name == "both" else (name,):
            below = name == "both" and where == "block"
            added = _candidate(where, found[name].folds, make, rank, again, deadline, below)
            found[name] = replace(added, parts=found[name].parts + added.parts)
    return found


def _candidate(
    where: str,
    folds: list[tuple[AnswerStates, AnswerStates]],
    make: Callable[[str, AnswerStates], ReadoutFit],
    rank: int,
    again: bool,
    deadline: float | None,
    below: bool,
) -> Candidate:
    fits = [make(where, states) for states, _ in folds]
    found = [fit.start() for fit in fits]
    best: tuple[float, RowScores, list[Factors], list[AnswerStates]] | None = None
    for penalty in fits[0].penalties:
        found = [fit.solve(penalty, start, deadline) for fit, start in zip(fits, found, strict=True)]
        cuts = [fit.cut(one, rank, penalty if again else None, deadline) for fit, one in zip(fits, found, strict=True)]
        after = [fit.applied(held, *cut) for fit, cut, (_, held) in zip(fits, cuts, folds, strict=True)]
        scores = joined([predict(held) for held in after])
        least = np.inf if best is None else best[1].mean_loss()
        if best is None or scores.mean_loss() < least:
            best = penalty, scores, cuts, after
        late = deadline is not None and time.perf_counter() > deadline
        if late or scores.mean_loss() > (1 - GAIN) * least:
            break
    assert best is not None  # there is a penalty
    penalty, scores, cuts, after = best
    scale, before = 1.0, joined([predict(held) for _, held in folds]).mean_loss()
    for smaller in SCALES if scores.mean_loss() >= before else ():
        less = [(A, np.float32(smaller) * B) for A, B in best[2]]
        moved = [fit.applied(held, *cut) for fit, cut, (_, held) in zip(fits, less, folds, strict=True)]
        scaled = joined([predict(held) for held in moved])
        if scaled.mean_loss() < scores.mean_loss():
            scale, scores, cuts, after = smaller, scaled, less, moved
    part = Part(where, penalty, rank, again, scale)
    if not below:
        return Candidate((part,), scores, [])
    seen = [fit.applied(states, *cut) for fit, cut, (states, _) in zip(fits, cuts, folds, strict=True)]
    return Candidate((part,), scores, list(zip(seen, after, strict=True)))


def joined(parts: Sequence[RowScores]) -> RowScores:
    """Return the scores of several parts of the rows as one."""
    return RowScores(*(np.concatenate([getattr(part, name) for part in parts]) for name in RowScores._fields))


def preferred(found: dict[str, Candidate]) -> str:
    """Return the form to take: the last block, unless another is better by more than `MARGIN`; else the smallest
    loss."""
    best = min(found, key=lambda name: found[name].scores.mean_loss())
    if "block" not in found:
        return best
    block, other = found["block"].scores, found[best].scores
    better = other.mean_loss() < (1 - MARGIN) * block.mean_loss() and other.exact_match() >= block.exact_match()
    return best if better else "block"
