from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lorameta.distance.mmd import mmd

counts = arrays(np.int64, 9, elements=st.integers(0, 5)).filter(lambda c: c.any())


def k(x, y):
    """The paper's kernel of numbers, written out."""
    return sum(a**2 / (a**2 + (x - y) ** 2) for a in (0.2, 0.5, 0.9, 1.3))


def double_sum(p, q) -> float:
    p, q = p / p.sum(), q / q.sum()
    ids = np.arange(len(p), dtype=float)
    return float((p - q) @ k(ids[:, None], ids[None, :]) @ (p - q))


@given(counts, counts)
def test_equals_the_double_sum(p, q):
    assert mmd(p, q[None])[0] == pytest.approx(double_sum(p, q), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 500, 512, 513])
def test_no_size_of_the_vocabulary_wraps_around(vocabulary):
    rng = np.random.default_rng(0)
    bank = rng.poisson(1.5, size=(3, vocabulary)) + 1
    target = np.zeros(vocabulary, int)
    target[[0, -1]] = 1
    np.testing.assert_allclose(mmd(target, bank), [double_sum(target, q) for q in bank], rtol=1e-10, atol=1e-15)


def test_equals_the_sampled_estimate_within_its_error():
    """What the paper's code estimates: 1000 ids a side, with the full kernel matrices."""
    rng = np.random.default_rng(0)
    p, q = (rng.poisson(rng.gamma(0.3, size=200) * 9) + 1 for _ in range(2))
    size, found = 1000, []
    for _ in range(10):
        x, y = (rng.choice(200, size, p=c / c.sum()).astype(float)[:, None] for c in (p, q))
        pairs = k(x, x.T) + k(y, y.T) - 2 * k(x, y.T)
        # A sampled token meets itself 1000 times in 1000² pairs: without them the estimate has no bias.
        found.append((pairs.sum() - 2 * size * k(0, 0)) / (size * (size - 1)) + 2 * k(x, y.T).mean() / (size - 1))
    error = np.std(found) / np.sqrt(len(found))
    exact = mmd(p, q[None])[0]
    assert abs(np.mean(found) - exact) < 4 * error
    assert error < exact / 10


@given(counts, counts, counts)
def test_is_symmetric_and_its_root_a_metric(p, q, r):
    (pq,), (qp,), (qr,), (pr,) = (mmd(a, b[None]) for a, b in [(p, q), (q, p), (q, r), (p, r)])
    assert pq == pytest.approx(qp, rel=1e-9, abs=1e-14)
    assert 0 <= pq <= 8
    assert np.sqrt(pr) <= np.sqrt(pq) + np.sqrt(qr) + 1e-7
    assert mmd(p, 4 * p[None])[0] < 1e-14


def test_two_single_tokens_by_hand():
    # 2 k(0) - 2 k(1), with the kernel's four widths
    expected = 8 - 2 * (0.04 / 1.04 + 0.25 / 1.25 + 0.81 / 1.81 + 1.69 / 2.69)
    np.testing.assert_allclose(mmd(np.array([1, 0]), np.array([[0, 9], [5, 0]])), [expected, 0], atol=1e-14)
