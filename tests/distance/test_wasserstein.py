from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from lorameta.distance.wasserstein import wasserstein

counts = arrays(np.int64, 9, elements=st.integers(0, 5)).filter(lambda c: c.any())


def tokens(counts) -> np.ndarray:
    """The list of token ids that has these counts."""
    return np.repeat(np.arange(len(counts)), counts)


@given(counts, st.lists(counts, min_size=1, max_size=4))
def test_equals_scipy_on_the_token_lists(p, bank):
    expected = [wasserstein_distance(tokens(p), tokens(q)) for q in bank]
    np.testing.assert_allclose(wasserstein(p, np.array(bank)), expected, rtol=1e-12, atol=1e-13)


def test_equals_scipy_on_long_lists_that_cross_often():
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(2, 32_002)
    bank = rng.multinomial(30_000, weights / weights.sum(), size=4)
    target = rng.multinomial(20_000, weights / weights.sum())
    expected = [wasserstein_distance(tokens(target), tokens(q)) for q in bank]
    np.testing.assert_allclose(wasserstein(target, bank), expected, rtol=1e-12)


@given(counts, counts, counts)
def test_is_a_metric(p, q, r):
    (pq,), (qp,), (qr,), (pr,) = (wasserstein(a, b[None]) for a, b in [(p, q), (q, p), (q, r), (p, r)])
    assert pq == pytest.approx(qp, rel=1e-12, abs=1e-13)
    assert pr <= pq + qr + 1e-12
    assert wasserstein(p, 3 * p[None])[0] < 1e-13
    assert (pq < 1e-13) == (p * q.sum() == q * p.sum()).all()


def test_its_unit_is_the_token_id():
    p = np.array([0, 4, 0, 0, 0])
    found = wasserstein(p, np.array([[0, 0, 0, 7, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 1], [3, 0, 0, 0, 0]]))
    np.testing.assert_allclose(found, [2, 2, 3, 1], rtol=1e-15)


def test_counts_beyond_32_bits():
    p = np.array([2**40, 0, 0, 2**40])
    np.testing.assert_allclose(wasserstein(p, np.array([[0, 2**41, 0, 0], [1, 0, 0, 1]])), [1.5, 0], atol=1e-15)
