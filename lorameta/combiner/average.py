"""Weighted sums of the factors themselves, streamed from where they are stored."""

from __future__ import annotations

import numpy as np

from lorameta.adapter.lora import LoraPair
from lorameta.combiner.kernels import add_rows
from lorameta.combiner.terms import ShardSlice, Terms

#: Numbers in the factors of a module from which on numba is worth its start: in a model of some dozen modules they are
#: gigabytes, for which numpy needs seconds.
COMPILE_FROM = 1 << 24


def average(terms: Terms, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ w_i Bᵢ and Σ w_i Aᵢ of terms of one rank.

    Rows of a shard are summed where they lie in the mapped file, a few at a time. Sums are in float32.

    Returns
    -------
    B : numpy.ndarray of shape (d_out, r), float32
    A : numpy.ndarray of shape (r, d_in), float32
    """
    single = np.asarray(weights, dtype=np.float32)
    rank, (d_out, d_in) = terms.ranks[0], terms.shape
    many = terms.summed_rank * (d_out + d_in) >= COMPILE_FROM
    sums = {"lora_B": np.zeros(rank * d_out, np.float32), "lora_A": np.zeros(rank * d_in, np.float32)}
    for part in terms.parts():
        if isinstance(part, ShardSlice):
            for half, total in sums.items():
                for some, bits in part.blocks(half):
                    add_rows(bits.reshape(len(bits), -1), part.dtype(half), single[some], total, compile=many)
        else:
            pair = terms[part]
            sums["lora_B"] += single[part] * pair.B.T.reshape(-1)
            sums["lora_A"] += single[part] * pair.A.reshape(-1)
    return sums["lora_B"].reshape(rank, d_out).T, sums["lora_A"].reshape(rank, d_in)


def on_one_a(terms: Terms, weights: np.ndarray) -> LoraPair | None:
    """Return the exact sum where all terms have the very same A, (Σ wᵢ sᵢ Bᵢ) A; None where they do not."""
    if len(terms) < 2:
        return None
    first = terms[0].A
    B = np.zeros((terms.shape[0], len(first)))
    for pair, weight in zip(terms, weights, strict=True):
        if pair.A is not first and not np.array_equal(pair.A, first):
            return None
        B += weight * pair.scaling * pair.B
    return LoraPair(A=first, B=B.astype(np.float32))
