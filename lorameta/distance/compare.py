"""One dataset against a bank by the name of a distance, checked on both sides."""

from __future__ import annotations

import numpy as np

from lorameta.distance import DISTANCES
from lorameta.encoder.summary import DatasetSummary, Summaries
from lorameta.errors import BankError, UsageError, violations


def distances(target: DatasetSummary, bank: Summaries, name: str) -> np.ndarray:
    """Compute the distance of a dataset to each dataset behind a bank.

    Parameters
    ----------
    target : DatasetSummary
    bank : Summaries
        Made with the same tokenizer or sentence model as `target`.
    name : str
        A key of `DISTANCES`.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        Finite, at least 0, in the order of ``bank.ids``.

    Raises
    ------
    UsageError
        If there is no such distance, or `target` lacks the part that it reads or holds NaN in it.
    BankError
        If the bank lacks that part, has it in another shape, or a distance is not finite.

    Examples
    --------
    >>> from lorameta.encoder import DatasetSummary, Summaries
    >>> bank = Summaries.from_list(
    ...     ["same", "other"], [DatasetSummary(1, np.array([2, 0])), DatasetSummary(1, np.array([0, 2]))]
    ... )
    >>> distances(DatasetSummary(1, np.array([1, 0])), bank, "js").round(3)
    array([0.   , 0.693])
    """
    if name not in DISTANCES:
        raise UsageError(f"unknown distance {name!r}; there are {', '.join(DISTANCES)}")
    distance = DISTANCES[name]
    _check(target, bank, distance.needs)
    found = np.asarray(distance.function(target, bank), dtype=np.float64)
    if found.shape != (len(bank),):
        raise UsageError(f"the distance {name!r} gave the shape {found.shape} for a bank of {len(bank)} adapters")
    bad = ~((found >= 0) & (found < np.inf))
    if bad.any():
        listed = [f"{bank.ids[i]}: {found[i]}" for i in np.flatnonzero(bad)]
        raise BankError(violations(listed, f"the distance {name!r} to these adapters is no number from 0 up:"))
    return found


def distance_matrix(summaries: Summaries, name: str) -> np.ndarray:
    """Compute the distances of every dataset behind a bank to every other.

    Parameters
    ----------
    summaries : Summaries
    name : str
        A key of `DISTANCES`.

    Returns
    -------
    numpy.ndarray of shape (N, N), float64
        Row i has the distances of the i-th dataset, as the new one, to all of the bank, itself included: the diagonal
        is what the formula gives, 0 up to rounding.

    Raises
    ------
    UsageError
        If there is no such distance.
    BankError
        As of :func:`distances`.
    """
    if name not in DISTANCES:
        raise UsageError(f"unknown distance {name!r}; there are {', '.join(DISTANCES)}")
    summaries.part(DISTANCES[name].needs)
    rows = [distances(summaries[adapter_id], summaries, name) for adapter_id in summaries.ids]
    return np.array(rows, dtype=np.float64).reshape(len(summaries), len(summaries))


def _check(target: DatasetSummary, bank: Summaries, part: str) -> None:
    """Both sides have `part`, and have it from the same tokenizer or model as far as its size tells."""
    if not all(np.isfinite(value).all() for value in target.part(part)):
        raise UsageError("the summary of this dataset holds NaN or infinite numbers; encode the dataset again")
    pairs = zip(target.part(part), bank.part(part), strict=True)
    sizes = [(ours.shape[-1], theirs.shape[-1]) for ours, theirs in pairs if np.ndim(ours)]
    if odd := [pair for pair in sizes if pair[0] != pair[1]]:
        ours, theirs = odd[0]
        if part == "tokens":
            what, remedy = "tokens in its vocabulary", "count with the tokenizer of the bank's base model"
        else:
            what, remedy = "numbers in an embedding", f"embed with the bank's sentence model, {bank.sentence_model}"
        raise BankError(f"the dataset's summary has {ours} {what}, the bank's {theirs}: {remedy}")
