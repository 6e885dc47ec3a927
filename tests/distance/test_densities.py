from __future__ import annotations

import numpy as np
import pytest

from lorameta.distance.densities import as_counts, densities, divergence
from lorameta.distance.js import js
from lorameta.distance.kl import kl
from lorameta.distance.mmd import mmd
from lorameta.distance.wasserstein import wasserstein
from lorameta.encoder import TokenCounts
from lorameta.encoder import counts as module
from lorameta.errors import UsageError

functions = pytest.mark.parametrize("function", [js, kl, mmd, wasserstein])


def test_densities_are_positive_and_sum_to_one():
    counts = np.array([[3, 0, 1], [0, 0, 10**12]])
    p = densities(counts)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(p, counts / counts.sum(axis=1, keepdims=True), atol=1e-9)
    np.testing.assert_array_equal(densities(counts, 0.0), counts / counts.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("counts", [[0, 0], [1, -1], [2, -1], [[1, 2], [0, 0]]])
def test_counts_that_are_no_histogram_are_refused(counts):
    with pytest.raises(UsageError, match="at least one token"):
        densities(np.array(counts))


@functions
@pytest.mark.parametrize("counts", [[0, 0], [1, -1]])
def test_they_are_refused_on_either_side(function, counts):
    with pytest.raises(UsageError, match="at least one token"):
        function(np.array(counts), np.array([[1, 2]]))
    with pytest.raises(UsageError, match="at least one token"):
        function(np.array([1, 2]), np.array([[3, 4], counts]))
    with pytest.raises(UsageError, match="of one vocabulary"):
        function(np.array([1, 2, 3]), np.array([[3, 4]]))


@functions
def test_dense_and_sparse_banks_give_the_same(target, bank, function):
    found = function(target.token_counts, bank.token_counts)
    np.testing.assert_array_equal(found, function(target.token_counts, bank.token_counts.toarray()))
    assert as_counts(bank.token_counts, target.token_counts) is bank.token_counts
    assert function(target.token_counts, bank.token_counts[np.arange(0)]).shape == (0,)


@functions
@pytest.mark.parametrize("cells", [1, 60, 130, 10**6])
def test_blocks_change_nothing(target, bank, monkeypatch, function, cells):
    whole = function(target.token_counts, bank.token_counts)
    monkeypatch.setattr(module, "BLOCK", cells)
    monkeypatch.setattr("lorameta.distance.mmd.BLOCK", cells)
    np.testing.assert_allclose(function(target.token_counts, bank.token_counts.toarray()), whole, rtol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, -1e-10, np.nan])
def test_without_smoothing_there_is_no_divergence(smoothing):
    with pytest.raises(UsageError, match="smoothing"):
        kl(np.array([1, 0]), np.array([[0, 1]]), smoothing)


def test_what_a_dataset_lacks_is_an_exact_difference():
    """The tokens of the target that a dataset lacks weigh 1e-6 of those it has; their share keeps its digits."""
    size = 4000
    target = np.full(size, 10**6)
    target[-1] = 1
    bank = np.tile(target, (2, 1))
    bank[1, -1] = 0
    p = densities(target)
    lacking = np.abs(p - 1e-10 / (1 + size * 1e-10))
    found = divergence(lambda a, b: np.abs(a - b) * (b < 1e-9), target, TokenCounts.from_dense(bank), 1e-10)
    assert found[0] == 0
    assert found[1] == pytest.approx(lacking[-1], rel=1e-8)
