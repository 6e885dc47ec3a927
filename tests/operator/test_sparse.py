"""The sparse operator: the conditions of optimality, a solver that shares no code, and the limits of the penalty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from lorameta.errors import UsageError
from lorameta.operator.sparse import sparse

penalties = st.sampled_from([0.0, 0.003, 0.03, 0.3, 3.0])


def problem(seed: int, count: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prototypes = rng.normal(size=(count, dimension)) + rng.normal(size=dimension)
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    target = rng.normal(size=dimension)
    return target / np.linalg.norm(target), prototypes


def objective(w: np.ndarray, z: np.ndarray, prototypes: np.ndarray, penalty: float) -> float:
    return float(((z - w @ prototypes) ** 2).sum() + penalty * np.abs(w).sum())


@given(seed=st.integers(0, 10**6), count=st.integers(1, 25), dimension=st.integers(1, 12), penalty=penalties)
@settings(max_examples=100)
def test_the_conditions_of_optimality_hold(seed, count, dimension, penalty):
    """With a multiplier μ: slope + λ sign(w) = μ where w ≠ 0, |slope − μ| ≤ λ where w = 0."""
    z, prototypes = problem(seed, count, dimension)
    w = sparse(z, prototypes, penalty=penalty)
    assert w.sum() == pytest.approx(1, abs=1e-9)
    slope = 2 * prototypes @ (w @ prototypes - z)
    used = w != 0
    multiplier = np.mean(slope[used] + penalty * np.sign(w[used]))
    # The ridge that makes the minimiser unique moves the slope by its share of w.
    slack = 1e-6 * (1 + np.abs(w).max())
    assert np.abs(slope[used] + penalty * np.sign(w[used]) - multiplier).max() <= slack
    assert (np.abs(slope[~used] - multiplier) <= penalty + slack).all()


@pytest.mark.parametrize("penalty", [0.003, 0.03, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_solver_finds_less(seed, penalty):
    z, prototypes = problem(seed, 12, 6)
    ours = sparse(z, prototypes, penalty=penalty)
    parts = np.concatenate([prototypes, -prototypes])  # w = u − v with u, v ≥ 0 makes the problem smooth

    def split(x: np.ndarray) -> tuple[float, np.ndarray]:
        rest = x @ parts - z
        return float(rest @ rest + penalty * x.sum()), 2 * parts @ rest + penalty

    signs = np.repeat([1.0, -1.0], 12)
    theirs = minimize(
        split, np.full(24, 1 / 12) * (signs > 0), jac=True, method="SLSQP", bounds=[(0, None)] * 24,
        constraints={"type": "eq", "fun": lambda x: signs @ x - 1, "jac": lambda x: signs},
        options={"ftol": 1e-14, "maxiter": 2000},
    )  # fmt: skip
    assert objective(ours, z, prototypes, penalty) <= theirs.fun + 1e-9
    np.testing.assert_allclose(ours @ prototypes, (theirs.x[:12] - theirs.x[12:]) @ prototypes, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_large_penalty_gives_the_nearest_point_of_the_convex_hull(seed):
    """Where no weight is negative, ‖w‖₁ = 1 whatever w; so all large penalties agree, with non-negative least squares
    (whose Σ w = 1 is a heavy row)."""
    z, prototypes = problem(seed, 15, 8)
    w = sparse(z, prototypes, penalty=10.0)
    assert (w >= 0).all()
    np.testing.assert_allclose(w, sparse(z, prototypes, penalty=1000.0), atol=1e-9)
    system = np.vstack([prototypes.T, np.full(15, 1e4)])
    theirs = nnls(system, np.append(z, 1e4))[0]
    np.testing.assert_allclose(w, theirs, atol=1e-5)


def test_without_a_penalty_it_is_least_squares():
    z, prototypes = problem(1, 5, 9)
    directions = prototypes[1:] - prototypes[0]
    free = np.linalg.lstsq(directions.T, z - prototypes[0], rcond=None)[0]
    np.testing.assert_allclose(sparse(z, prototypes, penalty=0), [1 - free.sum(), *free], atol=1e-6)


def test_some_weights_are_negative_with_a_small_penalty_and_fewer_with_a_larger():
    z, prototypes = problem(2, 30, 40)
    small, large = (sparse(z, prototypes, penalty=penalty) for penalty in (0.001, 0.1))
    assert (small < 0).any()
    assert np.abs(large).sum() < np.abs(small).sum()
    assert np.count_nonzero(large) < np.count_nonzero(small)


@given(seed=st.integers(0, 10**6), penalty=penalties, data=st.data())
@settings(max_examples=30)
def test_permuting_the_bank_permutes_the_weights(seed, penalty, data):
    z, prototypes = problem(seed, 8, 12)
    order = np.array(data.draw(st.permutations(range(8))))
    np.testing.assert_allclose(
        sparse(z, prototypes[order], penalty=penalty), sparse(z, prototypes, penalty=penalty)[order], atol=1e-6
    )


def test_a_prototype_of_the_bank_is_found_and_equal_ones_share():
    _, prototypes = problem(3, 9, 20)
    np.testing.assert_allclose(sparse(prototypes[4], prototypes, penalty=0.1), np.eye(9)[4], atol=1e-6)
    twice = np.concatenate([prototypes, prototypes[4:5]])
    np.testing.assert_allclose(sparse(prototypes[4], twice, penalty=0.1)[[4, 9]], [0.5, 0.5], atol=1e-4)


def test_one_adapter_gets_all_and_a_bank_of_equals_is_shared():
    np.testing.assert_array_equal(sparse(np.ones(3), np.zeros((1, 3))), [1])
    np.testing.assert_allclose(sparse(np.ones(3), np.ones((4, 3))), [0.25] * 4, atol=1e-9)


@pytest.mark.parametrize(
    ("z", "prototypes", "penalty", "message"),
    [
        (np.ones(3), np.ones((2, 4)), 0.1, "cannot be rebuilt"),
        (np.ones(3), np.ones((0, 3)), 0.1, "cannot be rebuilt"),
        (np.array([1.0, np.nan]), np.ones((2, 2)), 0.1, "finite"),
        (np.ones(2), np.ones((2, 2)), -0.1, "penalty"),
        (np.ones(2), np.ones((2, 2)), np.nan, "penalty"),
    ],
)
def test_what_cannot_work_is_refused(z, prototypes, penalty, message):
    with pytest.raises(UsageError, match=message):
        sparse(z, prototypes, penalty=penalty)


@pytest.mark.parametrize("penalty", [0.02, 0.1, 0.5])
def test_scikit_learns_lasso_finds_the_same_weights(penalty):
    lasso = pytest.importorskip("sklearn.linear_model").Lasso
    generator = np.random.default_rng(11)
    prototypes, z = generator.normal(size=(12, 20)) / 4, generator.normal(size=20) / 4
    strong = 30.0  # the constraint Σ w = 1 as one more row
    rows = np.vstack([(prototypes - z).T, np.full(12, strong)])
    aim = np.append(np.zeros(20), strong)
    model = lasso(alpha=penalty / (2 * len(rows)), fit_intercept=False, tol=1e-9, max_iter=1_000_000)
    np.testing.assert_allclose(sparse(z, prototypes, penalty=penalty), model.fit(rows, aim).coef_, atol=2e-3)
