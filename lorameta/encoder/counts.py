"""Token counts of many datasets, of which each uses few of the vocabulary's tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from lorameta.errors import BankError

#: Tokens of a vocabulary at most, ten times the largest known: the histogram of one dataset is dense.
MAX_VOCABULARY = 1 << 22
BLOCK = 2**17  # entries worked off at once: the arrays of one step stay in the processor's cache


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Counts of shape (N, V) in compressed sparse rows: only what is not 0 is held.

    Three numpy arrays and not a ``scipy.sparse.csr_array``, as the import of scipy.sparse would cost every command
    0.1 to 0.3 s. ``scipy.sparse.csr_array((c.counts, c.token_ids, c.indptr), c.shape)`` is the same matrix.

    Parameters
    ----------
    indptr : numpy.ndarray of shape (N + 1,), int64
        Dataset i has the entries ``indptr[i]:indptr[i + 1]``.
    token_ids : numpy.ndarray of shape (nnz,), int64
        Increasing within a dataset.
    counts : numpy.ndarray of shape (nnz,), int64
        How often each occurs; not 0.
    vocabulary_size : int
        V.

    Raises
    ------
    BankError
        If the arrays do not fit together.
    """

    indptr: np.ndarray
    token_ids: np.ndarray
    counts: np.ndarray
    vocabulary_size: int

    def __post_init__(self) -> None:
        indptr, token_ids, counts = self.indptr, self.token_ids, self.counts
        if any(array.dtype != np.int64 or array.ndim != 1 for array in (indptr, token_ids, counts)):
            raise BankError("the three arrays of token counts must be int64 with one axis")
        lengths = np.diff(indptr)
        if len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != len(token_ids) or (lengths < 0).any():
            raise BankError(f"the index pointer of the token counts does not fit {len(token_ids)} entries")
        if counts.shape != token_ids.shape or not counts.all():
            raise BankError("token ids and counts do not match, or a count is 0")
        falls = np.diff(token_ids) <= 0
        starts = indptr[1:-1]
        falls[starts[(starts > 0) & (starts < len(token_ids))] - 1] = False
        if token_ids.size and (token_ids.min() < 0 or token_ids.max() >= self.vocabulary_size or falls.any()):
            raise BankError(f"token ids are out of order or beyond the vocabulary of {self.vocabulary_size}")

    @classmethod
    def stack(cls, rows: Iterable[np.ndarray], vocabulary_size: int) -> TokenCounts:
        """Return the rows of a dense (N, V) array, or N vectors (V,), as sparse ones."""
        indptr, token_ids, counts = [0], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for row in rows:
            if row.shape != (vocabulary_size,) or row.dtype.kind not in "iu":
                raise BankError(f"token counts are {row.dtype} {row.shape}, not integers of shape ({vocabulary_size},)")
            token_ids.append(np.flatnonzero(row))
            counts.append(row[token_ids[-1]].astype(np.int64))
            indptr.append(indptr[-1] + len(token_ids[-1]))
        return cls(np.array(indptr, np.int64), np.concatenate(token_ids), np.concatenate(counts), vocabulary_size)

    @classmethod
    def from_dense(cls, counts: np.ndarray) -> TokenCounts:
        """Of a dense integer array (N, V)."""
        counts = np.asarray(counts)
        if counts.ndim != 2:
            raise BankError(f"token counts of a bank have the shape (N, V), not {counts.shape}")
        return cls.stack(counts, counts.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(N, V)."""
        return len(self), self.vocabulary_size

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @overload
    def __getitem__(self, rows: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, rows: np.ndarray) -> TokenCounts: ...
    def __getitem__(self, rows: int | np.ndarray) -> np.ndarray | TokenCounts:
        """Row i, dense (V,); or, for an array of row numbers, these rows as `TokenCounts`."""
        if isinstance(rows, np.ndarray):
            starts, lengths = self.indptr[rows], np.diff(self.indptr)[rows]
            indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            place = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
            return TokenCounts(indptr, self.token_ids[place], self.counts[place], self.vocabulary_size)
        rows = range(len(self))[rows]
        dense = np.zeros(self.vocabulary_size, dtype=np.int64)
        cells = slice(self.indptr[rows], self.indptr[rows + 1])
        dense[self.token_ids[cells]] = self.counts[cells]
        return dense

    def toarray(self) -> np.ndarray:
        """Dense (N, V), int64."""
        dense = np.zeros(self.shape, dtype=np.int64)
        dense[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.token_ids] = self.counts
        return dense

    @cached_property
    def totals(self) -> np.ndarray:
        """Number of tokens in each dataset, (N,) int64; 0 where there is none."""
        sums = np.concatenate([[0], np.cumsum(self.counts)])
        return sums[self.indptr[1:]] - sums[self.indptr[:-1]]

    @cached_property
    def frequencies(self) -> np.ndarray:
        """Each count divided by the total of its dataset, (nnz,) float64."""
        return self.counts / np.repeat(self.totals, np.diff(self.indptr))

    def blocks(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Runs of datasets, each of about as many entries as are quick to work off at once.

        Yields
        ------
        rows : slice
            The datasets of the run.
        cells : slice
            Their entries.
        starts : numpy.ndarray
            Where in these each dataset begins, for ``np.add.reduceat``; every dataset must have an entry.
        """
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.indptr, self.indptr[start] + BLOCK, side="right")) - 1
            stop = min(max(stop, start + 1), len(self))
            first, last = int(self.indptr[start]), int(self.indptr[stop])
            yield slice(start, stop), slice(first, last), self.indptr[start:stop] - first
            start = stop
