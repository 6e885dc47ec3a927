from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import csr_array

from lorameta.encoder import TokenCounts
from lorameta.encoder import counts as module
from lorameta.errors import BankError

dense_counts = arrays(
    np.int64, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=7), elements=st.integers(0, 3)
)


@given(dense_counts)
def test_is_scipys_matrix(dense):
    counts, theirs = TokenCounts.from_dense(dense), csr_array(dense)
    assert counts.shape == dense.shape
    np.testing.assert_array_equal(counts.indptr, theirs.indptr)
    np.testing.assert_array_equal(counts.token_ids, theirs.indices)
    np.testing.assert_array_equal(counts.counts, theirs.data)
    np.testing.assert_array_equal(counts.toarray(), dense)
    np.testing.assert_array_equal(counts.totals, dense.sum(axis=1))


@given(dense_counts, st.data())
def test_rows_come_back_in_any_order(dense, data):
    counts = TokenCounts.from_dense(dense)
    for i, row in enumerate(dense):
        np.testing.assert_array_equal(counts[i], row)
    if len(dense):
        np.testing.assert_array_equal(counts[-1], dense[-1])
        rows = np.array(data.draw(st.lists(st.integers(0, len(dense) - 1), max_size=9)), dtype=np.int64)
        np.testing.assert_array_equal(counts[rows].toarray(), dense[rows])
    with pytest.raises(IndexError):
        counts[len(dense)]


def test_frequencies_sum_to_one_in_each_dataset():
    dense = np.random.default_rng(0).poisson(0.7, size=(5, 30)) + np.eye(5, 30, dtype=int)
    counts = TokenCounts.from_dense(dense)
    np.testing.assert_allclose(np.add.reduceat(counts.frequencies, counts.indptr[:-1]), 1, rtol=1e-14)
    whole = np.zeros((5, 30))
    whole[dense > 0] = counts.frequencies
    np.testing.assert_allclose(whole, dense / dense.sum(axis=1, keepdims=True), rtol=1e-15)


@pytest.mark.parametrize("block", [1, 7, 50, 10**6])
def test_blocks_cover_every_dataset_once(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    dense = np.random.default_rng(0).poisson(0.7, size=(9, 30)) + np.eye(9, 30, dtype=int)
    counts = TokenCounts.from_dense(dense)
    sums = []
    for rows, cells, starts in counts.blocks():
        assert rows.start == len(sums)
        assert rows.stop - rows.start == 1 or cells.stop - cells.start <= block
        sums += list(np.add.reduceat(counts.counts[cells], starts))
    np.testing.assert_array_equal(sums, dense.sum(axis=1))


def test_a_bank_of_502_takes_megabytes():
    rng = np.random.default_rng(0)
    ids = [np.unique(rng.integers(0, 32_000, size=3000)) for _ in range(502)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    counts = TokenCounts(indptr, np.concatenate(ids), np.ones(indptr[-1], np.int64), 32_000)
    assert sum(array.nbytes for array in (counts.indptr, counts.token_ids, counts.counts)) < 25e6  # dense: 128e6


INDPTR, IDS, COUNTS = np.array([0, 2, 2, 3]), np.array([1, 4, 0]), np.array([5, 1, 2])


@pytest.mark.parametrize(
    ("indptr", "ids", "counts", "message"),
    [
        (INDPTR, np.array([4, 1, 0]), COUNTS, "out of order"),
        (INDPTR, np.array([1, 1, 0]), COUNTS, "out of order"),
        (INDPTR, np.array([1, 5, 0]), COUNTS, "beyond the vocabulary of 5"),
        (INDPTR, np.array([-1, 4, 0]), COUNTS, "out of order or beyond"),
        (INDPTR, IDS, np.array([5, 0, 2]), "a count is 0"),
        (INDPTR, IDS, COUNTS[:2], "do not match"),
        (np.array([0, 2, 1, 3]), IDS, COUNTS, "does not fit 3 entries"),
        (np.array([0, 2]), IDS, COUNTS, "does not fit 3 entries"),
        (np.array([], np.int64), IDS, COUNTS, "does not fit 3 entries"),
        (INDPTR, IDS, COUNTS / 1, "int64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(indptr, ids, counts, message):
    assert TokenCounts(INDPTR, IDS, COUNTS, 5).toarray().tolist() == [[0, 5, 0, 0, 1], [0] * 5, [2, 0, 0, 0, 0]]
    with pytest.raises(BankError, match=message):
        TokenCounts(indptr, ids, counts, 5)


@pytest.mark.parametrize("dense", [np.ones(3, int), np.ones((2, 3))])
def test_what_is_no_table_of_whole_numbers_is_refused(dense):
    with pytest.raises(BankError, match="not"):
        TokenCounts.from_dense(dense)
