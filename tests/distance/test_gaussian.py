from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag, sqrtm

from lorameta.distance.gaussian import gaussian


def draw(seed: int, n: int = 3, k: int = 4, d: int = 7):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0, 2)
    return rng.normal(size=(n, d)), scale * rng.normal(size=(n, k, d)), rng.uniform(0, 1, size=n)


def one(a, b) -> float:
    return float(gaussian(*a, *(np.asarray(part)[None] for part in b))[0])


def parts(seed: int):
    means, factors, residuals = draw(seed)
    return [(means[i], factors[i], residuals[i]) for i in range(3)]


@pytest.mark.filterwarnings("ignore:Matrix is singular:scipy.linalg.LinAlgWarning")  # so it is, on purpose
@given(seed=st.integers(0, 2**32))
def test_equals_the_formula_with_dense_covariances(seed):
    (mean, factor, residual), *others = parts(seed)
    for other_mean, other_factor, other_residual in others:
        # The residual is a coordinate of its own.
        ours = block_diag(factor.T @ factor, residual)
        theirs = block_diag(other_factor.T @ other_factor, other_residual)
        root = np.real(sqrtm(ours))
        cross = np.real(sqrtm(root @ theirs @ root))
        squared = np.square(mean - other_mean).sum() + np.trace(ours) + np.trace(theirs) - 2 * np.trace(cross)
        found = one((mean, factor, residual), (other_mean, other_factor, other_residual))
        assert found**2 == pytest.approx(squared, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pot(ot, seed):
    means, factors, _ = draw(seed, n=2, k=9)  # POT takes roots of covariances, which must have full rank
    expected = ot.gaussian.bures_wasserstein_distance(*means, *(factor.T @ factor for factor in factors))
    assert one((means[0], factors[0], 0.0), (means[1], factors[1], 0.0)) == pytest.approx(float(expected), rel=1e-9)


@given(seed=st.integers(0, 2**32))
def test_is_a_metric(seed):
    a, b, c = parts(seed)
    assert one(a, b) == pytest.approx(one(b, a), rel=1e-12)
    assert one(a, c) <= one(a, b) + one(b, c) + 1e-12
    assert one(a, a) < 1e-12


def test_a_rotated_factor_is_the_same_gaussian():
    mean, factor, residual = parts(0)[0]
    q = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    assert one((mean, factor, residual), (mean, q @ factor, residual)) < 1e-12


def test_one_dimension_by_hand():
    # N(1, 4) and N(3, 1/4): √((1 - 3)² + (2 - ½)²) = 2.5
    found = gaussian(np.ones(1), np.array([[2.0]]), 0.0, np.full((1, 1), 3.0), np.array([[[-0.5]]]), np.zeros(1))
    assert found == pytest.approx([2.5])


def test_no_variance_leaves_the_distance_of_the_means():
    mean, factor, _ = parts(0)[0]
    assert one((mean, 0 * factor, 0.0), (mean + 1, 0 * factor, 0.0)) == pytest.approx(np.sqrt(7))


def test_factors_of_unequal_rank():
    (mean, factor, residual), (other_mean, other_factor, other_residual), _ = parts(0)
    padded = np.concatenate([other_factor[:2], np.zeros((2, 7))])
    short = one((mean, factor, residual), (other_mean, other_factor[:2], other_residual))
    assert short == pytest.approx(one((mean, factor, residual), (other_mean, padded, other_residual)), rel=1e-12)
    assert short == pytest.approx(
        one((other_mean, other_factor[:2], other_residual), (mean, factor, residual)), rel=1e-12
    )


def test_float32_summaries_keep_their_digits():
    mean, factor, residual = (np.asarray(part, np.float32) for part in parts(0)[0])
    near = one((mean, factor, residual), (mean, factor * np.float32(1 + 1e-6), residual))
    assert near == pytest.approx(np.linalg.norm(factor.astype(float)) * 1e-6, rel=0.1)
