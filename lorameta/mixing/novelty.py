"""How unusual a dataset is for a bank: its nearest distance beside those that the bank's own datasets have."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lorameta.distance import DISTANCES, distances
from lorameta.encoder.sentence import moments
from lorameta.encoder.summary import DatasetSummary, Summaries
from lorameta.errors import UsageError

#: Members of the bank whose nearest distances are looked up, drawn by seed from a larger bank: bounds the work.
MEMBERS = 40
#: A dataset is called outside the bank where the share of members that lie as far out is at most this.
LEVEL = 0.05


@dataclass(frozen=True)
class Unusual:
    """Where the distance of a dataset to its nearest adapter stands among the bank's own.

    Attributes
    ----------
    nearest : str
        Id of the nearest adapter.
    distance : float
        To it.
    typical : float
        Median distance of a member to the nearest other member.
    p_value : float
        (1 + #{members at least as far from their nearest}) / (1 + members), in (0, 1]: a conformal p-value. If the
        dataset came from where the bank's datasets came from, it is at most α with a probability of at most α.
    members : int
        How many of the bank's datasets it was compared with.
    """

    nearest: str
    distance: float
    typical: float
    p_value: float
    members: int

    @property
    def outside(self) -> bool:
        """Whether the dataset lies outside the bank, at the level 0.05 (a bank of fewer than 19 never says so)."""
        return self.p_value <= LEVEL

    def message(self) -> str:
        """One sentence for people: where the dataset stands."""
        where = "lies outside the bank" if self.outside else "is as near to the bank as its own datasets are"
        if not self.outside and self.p_value <= 4 * LEVEL:
            where = "lies at the edge of the bank"
        return (
            f"the dataset {where}: {self.distance:.3g} to its nearest adapter, {self.nearest}; {self.typical:.3g} is "
            f"typical inside the bank, and at most {self.p_value:.0%} of its own datasets are as far out"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the verdict, for reports."""
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return rounded | {"outside": self.outside}


def unusual(
    target: DatasetSummary, bank: Summaries, found: np.ndarray, distance: str, *, seed: int = 0
) -> Unusual | None:
    """Compare a dataset's nearest distance with the leave-one-out nearest distances inside the bank.

    A small dataset is farther from everything than a large one of the same kind, because its histogram or cloud is
    coarser. So each member is first cut down at random to the size of `target`.

    Parameters
    ----------
    target : DatasetSummary
    bank : Summaries
    found : numpy.ndarray of shape (N,)
        The distances of `target` to the bank, as `distances` gives them.
    distance : str
        Their name, a key of :data:`lorameta.distance.DISTANCES`.
    seed : int
        Of the cut and of the draw of members.

    Returns
    -------
    Unusual, or None for a bank of fewer than two adapters

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), chapter 2: conformal p-values.
    """
    if len(found) != len(bank):
        raise UsageError(f"{len(found)} distances came with a bank of {len(bank)} adapters")
    if len(bank) < 2:
        return None
    reference = member_distances(bank, distance, like=target, seed=seed)
    nearest = int(np.argmin(found))
    value = float(found[nearest])
    return Unusual(bank.ids[nearest], value, float(np.median(reference)), p_value(value, reference), len(reference))


def p_value(value: float, reference: np.ndarray) -> float:
    """(1 + #{r ≥ value}) / (1 + n)."""
    return (1 + int(np.count_nonzero(reference >= value))) / (1 + len(reference))


def member_distances(
    bank: Summaries, distance: str, *, like: DatasetSummary | None = None, members: int = MEMBERS, seed: int = 0
) -> np.ndarray:
    """Distance of members of the bank to the nearest other member.

    Parameters
    ----------
    bank : Summaries
        Of at least two datasets.
    distance : str
        A key of :data:`lorameta.distance.DISTANCES`.
    like : DatasetSummary, optional
        Cut every member down to its size first.
    members : int
        At most so many members, drawn without replacement.
    seed : int

    Returns
    -------
    numpy.ndarray of shape (min(N, members),), float64
    """
    generator = np.random.default_rng(seed)
    count = len(bank)
    chosen = np.sort(generator.choice(count, members, replace=False)) if count > members else np.arange(count)
    nearest = np.empty(len(chosen))
    for place, i in enumerate(chosen):
        member = bank[bank.ids[i]]
        if like is not None:
            member = cut_down(member, like, DISTANCES[distance].needs, generator)
        row = distances(member, bank, distance)
        nearest[place] = np.delete(row, i).min()
    return nearest


def cut_down(member: DatasetSummary, like: DatasetSummary, part: str, generator: np.random.Generator) -> DatasetSummary:
    """Return a random part of a dataset, as large as `like`; the dataset itself where it is no larger.

    Tokens are drawn without replacement from the histogram. Of the embeddings only a sample is stored, so a member is
    cut only where `like` has fewer rows than that sample; above, mean and covariance hardly depend on the size.
    """
    if part == "tokens":
        counts, size = member.part("tokens")[0], int(like.part("tokens")[0].sum())
        if size >= counts.sum():
            return member
        return replace(member, token_counts=generator.multivariate_hypergeometric(counts, size, method="marginals"))
    _, factor, _, sample = member.part("sentence")
    if like.rows >= len(sample):
        return member
    rows = sample[generator.choice(len(sample), like.rows, replace=False)]
    mean, factor, residual = moments(rows, len(factor))
    return replace(member, rows=like.rows, mean=mean, covariance_factor=factor, residual_variance=residual, sample=rows)
