from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from lorameta.distance.densities import densities
from lorameta.distance.js import js
from lorameta.distance.kl import kl

counts = arrays(np.int64, 6, elements=st.integers(0, 1000)).filter(lambda c: c.any())


def test_equals_the_square_of_scipys(target, bank):
    p, q = densities(target.token_counts), densities(bank.token_counts.toarray())
    expected = [jensenshannon(p, row) ** 2 for row in q]
    np.testing.assert_allclose(js(target.token_counts, bank.token_counts), expected, rtol=1e-12)


def test_equals_the_plain_sum_in_extended_precision():
    """Over a vocabulary of which every dataset uses a fifth, with datasets next to the target and far away."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(2, 8002)
    target, *bank = rng.multinomial(9000, weights / weights.sum(), size=4)
    bank = np.array([*bank, target, target + (np.arange(8000) == 7), rng.permutation(target)])
    p, q = (densities(c).astype(np.longdouble) for c in (target, bank))
    middle = (p + q) / 2
    expected = ((p * np.log(p / middle)).sum(axis=-1) + (q * np.log(q / middle)).sum(axis=-1)) / 2
    np.testing.assert_allclose(js(target, bank), expected.astype(float), rtol=1e-11, atol=1e-15)
    assert js(target, bank)[3] == 0


@given(counts, counts)
def test_is_symmetric_bounded_and_zero_between_equals(p, q):
    (there,), (back,) = js(p, q[None]), js(q, p[None])
    np.testing.assert_allclose(there, back, rtol=1e-12, atol=1e-16)
    assert 0 <= there <= np.log(2)
    assert js(p, p[None])[0] == 0
    np.testing.assert_allclose(js(p, 5 * p[None]), 0, atol=1e-15)


@given(counts, counts, counts)
def test_its_root_obeys_the_triangle_inequality(p, q, r):
    def root(a, b):
        return np.sqrt(js(a, b[None])[0])

    assert root(p, r) <= root(p, q) + root(q, r) + 1e-7


@given(counts, counts)
def test_is_at_most_half_of_jeffreys_divergence(p, q):
    """JS ≤ ¼ (KL(p ‖ q) + KL(q ‖ p)): Lin 1991, theorem 3, with its natural logarithm."""
    assert js(p, q[None])[0] <= (kl(p, q[None])[0] + kl(q, p[None])[0]) / 4 + 1e-12


def test_without_a_token_in_common_it_is_ln_2():
    np.testing.assert_allclose(js(np.array([1, 0, 0]), np.array([[0, 4, 2]])), np.log(2), rtol=1e-8)
