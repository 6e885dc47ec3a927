from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import softmax

from lorameta.errors import UsageError
from lorameta.operator.softmin import softmin

rows = arrays(np.float64, st.integers(1, 12), elements=st.floats(-50, 50))
temperatures = st.floats(0.05, 20)


@given(rows, temperatures)
def test_equals_scipy(d, t):
    np.testing.assert_allclose(softmin(d, t), softmax(-d / t), rtol=1e-10, atol=1e-300)


@given(arrays(np.float64, st.integers(1, 6), elements=st.floats(-3, 3)), st.floats(0.5, 5))
def test_minimises_cost_plus_entropy_over_the_simplex(d, t):
    def objective(w: np.ndarray) -> float:
        return float(w @ d + t * (w * np.log(np.maximum(w, 1e-300))).sum())

    w = softmin(d, t)
    # The minimum has a closed form, -T ln Σ exp(-d/T) ...
    assert objective(w) == pytest.approx(-t * np.log(np.exp(-d / t).sum()), abs=1e-9)
    # ... and a solver that knows nothing of it finds no lower value, nor another place.
    solved = minimize(
        objective,
        np.full(len(d), 1 / len(d)),
        jac=lambda w: d + t * (np.log(np.maximum(w, 1e-300)) + 1),
        bounds=[(1e-12, 1)] * len(d),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert objective(w) <= solved.fun + 1e-9
    np.testing.assert_allclose(solved.x, w, atol=2e-3)


@given(st.data(), temperatures)
def test_is_lipschitz(data, t):
    """‖w(d) - w(d′)‖₁ ≤ ‖d - d′‖_∞ / T."""
    d = data.draw(rows)
    other = d + data.draw(arrays(np.float64, len(d), elements=st.floats(-2, 2)))
    assert np.abs(softmin(d, t) - softmin(other, t)).sum() <= np.abs(d - other).max() / t + 1e-12


def test_the_lipschitz_constant_is_reached():
    """At w = (½, ½) a small change of both scores, in opposite directions, moves the weights by the bound."""
    step = np.array([1e-6, -1e-6])
    moved = np.abs(softmin(step, 0.5) - softmin(-step, 0.5)).sum()
    assert moved == pytest.approx(2e-6 / 0.5, rel=1e-6)


@given(rows, temperatures, st.floats(-50, 50))
def test_a_shift_of_all_changes_nothing(d, t, shift):
    np.testing.assert_allclose(softmin(d + shift, t), softmin(d, t), rtol=1e-9, atol=1e-300)


@given(rows, temperatures, st.floats(0.1, 10))
def test_the_temperature_is_a_unit(d, t, factor):
    np.testing.assert_allclose(softmin(factor * d, factor * t), softmin(d, t), rtol=1e-9, atol=1e-300)


@given(st.data(), temperatures)
def test_commutes_with_permutations(data, t):
    d = data.draw(rows)
    order = np.array(data.draw(st.permutations(range(len(d)))))
    np.testing.assert_allclose(softmin(d[order], t), softmin(d, t)[order], rtol=1e-12)


@given(rows, st.floats(0, allow_nan=False))
def test_is_on_the_simplex_and_decreases_with_the_score(d, t):
    w = softmin(d, t)
    assert (w >= 0).all()
    assert w.sum() == pytest.approx(1, abs=1e-12)
    assert (np.diff(w[np.argsort(d, kind="stable")]) <= 1e-15).all()


@given(rows)
def test_the_limit_of_temperature_0_is_the_nearest(d):
    w = softmin(d, 0)
    np.testing.assert_array_equal(w > 0, d == d.min())
    assert len(set(w[w > 0])) == 1
    gap = np.min(d[d > d.min()], initial=np.inf) - d.min()
    assume(gap > 1e-9)
    np.testing.assert_allclose(softmin(d, min(gap / 50, 1.0)), w, atol=1e-12)


@given(rows)
def test_the_limit_of_temperature_inf_is_uniform(d):
    np.testing.assert_allclose(softmin(d, np.inf), 1 / len(d), rtol=1e-15)
    np.testing.assert_allclose(softmin(d, 1e15), 1 / len(d), rtol=1e-12)


def test_extreme_numbers_neither_overflow_nor_vanish():
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(softmin(np.array([1e308, -1e308]), 1.0), [0, 1])
        np.testing.assert_array_equal(softmin(np.array([1e6, 1e6 + 1]), 1e-310), [1, 0])
        np.testing.assert_allclose(softmin(np.array([1e9, 1e9 + 1])), softmin(np.array([0.0, 1.0])))


@pytest.mark.parametrize("t", [-1, -1e-9, float("nan"), -np.inf])
def test_a_temperature_below_0_is_refused(t):
    with pytest.raises(UsageError, match="temperature"):
        softmin(np.array([1.0, 2.0]), t)
