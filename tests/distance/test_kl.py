from __future__ import annotations

import numpy as np
from scipy.special import rel_entr
from scipy.stats import entropy

from lorameta.distance.densities import densities
from lorameta.distance.kl import kl


def test_equals_scipy_in_the_direction_from_target_to_bank(target, bank):
    p, q = densities(target.token_counts), densities(bank.token_counts.toarray())
    np.testing.assert_allclose(kl(target.token_counts, bank.token_counts), rel_entr(p, q).sum(axis=1), rtol=1e-12)
    assert not np.allclose(kl(target.token_counts, bank.token_counts), rel_entr(q, p).sum(axis=1), rtol=0.05)


def test_equals_scipys_entropy_over_a_large_vocabulary():
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(2, 8002)
    target, *bank = rng.multinomial(9000, weights / weights.sum(), size=4)
    bank = np.array([*bank, target, target + (np.arange(8000) == 7), rng.permutation(target)])
    expected = [entropy(densities(target), densities(row)) for row in bank]
    np.testing.assert_allclose(kl(target, bank), expected, rtol=1e-11, atol=1e-15)
    assert kl(target, bank)[3] == 0


def test_a_case_by_hand():
    # p = (1/2, 1/2, 0), q = (1/4, 3/4, 0): ½ ln 2 + ½ ln(2/3)
    found = kl(np.array([1, 1, 0]), np.array([[1, 3, 0]]))
    np.testing.assert_allclose(found, 0.5 * np.log(2) + 0.5 * np.log(2 / 3), rtol=1e-8)


def test_a_token_that_the_bank_lacks_costs_a_bounded_price():
    found = kl(np.array([1, 0]), np.array([[0, 1], [1, 0], [5, 5]]))
    np.testing.assert_allclose(found, [np.log(1e10), 0, np.log(2)], rtol=1e-8)
    assert found.max() <= np.log1p(1e10)


def test_the_scale_of_the_counts_does_not_matter(target, bank):
    once = kl(target.token_counts, bank.token_counts)
    np.testing.assert_allclose(kl(7 * target.token_counts, 3 * bank.token_counts.toarray()), once, rtol=1e-12)
