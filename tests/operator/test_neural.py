"""The neural operator: its gradient, its loss against dense sums, what it learns, and what it is invariant to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import approx_fprime

from lorameta.errors import UsageError
from lorameta.operator import network, neural
from lorameta.operator.neural import NeuralOperator, cross_validate, fit_neural, leave_one_out, reconstruction_errors
from lorameta.operator.normalized import normalized


def learnable(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Updates that are smooth functions of hidden points, and the squared distances of those points."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    smooth = np.sin(points @ rng.normal(size=(3, 40)) + rng.normal(size=40))
    M = np.concatenate([smooth, 0.3 * rng.normal(size=(count, 40))], axis=1)
    return ((points[:, None] - points) ** 2).sum(axis=2), M @ M.T, M


D, G, M = learnable(0, 14)
FITTED = fit_neural(D, G, width=8, iterations=60)


def test_the_gradient_is_that_of_finite_differences():
    problem = neural.FitProblem(D, G)
    start = network.initial(6, problem.knots, np.random.default_rng(1))
    vector = network.packed(start) + 0.05 * np.random.default_rng(2).normal(size=network.packed(start).size)

    def value(v: np.ndarray) -> float:
        return problem.value_and_gradient(network.unpacked(v, start))[0]

    step = 1e-6
    central = (approx_fprime(vector, value, step) + approx_fprime(vector, value, -step)) / 2
    gradient = problem.value_and_gradient(network.unpacked(vector, start))[1]
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(gradient, central, atol=1e-6 * np.abs(gradient).max() + 1e-8, rtol=1e-3)


def test_the_loss_is_the_dense_reconstruction_error():
    weights = leave_one_out(D, normalized)
    assert (np.diag(weights) == 0).all()
    dense = ((weights @ M - M) ** 2).sum(axis=1) / (M**2).sum(axis=1)
    np.testing.assert_allclose(reconstruction_errors(weights, G), dense, rtol=1e-10)
    assert FITTED.errors["normalized"] == pytest.approx(dense.mean(), rel=1e-10)
    uniform = np.array([(np.delete(M, i, axis=0).mean(axis=0) - M[i]) for i in range(len(M))])
    assert FITTED.errors["uniform"] == pytest.approx(((uniform**2).sum(axis=1) / (M**2).sum(axis=1)).mean(), rel=1e-10)


def test_the_fit_minimises_what_it_reports():
    """The objective of the fit, here with knots at every z-score, is the error of the finished operator."""
    value, _ = neural.FitProblem(D, G).value_and_gradient(FITTED.parameters)
    assert value == pytest.approx(FITTED.errors["neural"], rel=1e-9)


def test_interpolation_between_knots_changes_next_to_nothing(monkeypatch):
    bigger = learnable(3, 40)[:2]
    monkeypatch.setattr(neural, "KNOTS", 2000)
    exact, _ = neural.FitProblem(*bigger).value_and_gradient(FITTED.parameters)
    monkeypatch.setattr(neural, "KNOTS", 512)
    near, _ = neural.FitProblem(*bigger).value_and_gradient(FITTED.parameters)
    assert near == pytest.approx(exact, rel=1e-3)


def test_it_starts_near_the_normalized_operator_and_ends_better():
    problem = neural.FitProblem(D, G)
    start = NeuralOperator(network.initial(32, problem.knots, np.random.default_rng(0)))
    np.testing.assert_allclose(leave_one_out(D, start.weights), leave_one_out(D, normalized), atol=0.02)
    assert FITTED.errors["neural"] < 0.95 * FITTED.errors["normalized"]


def test_it_learns_what_holds_of_datasets_it_has_not_seen():
    bank = learnable(5, 40)[:2]
    found = cross_validate(*bank, folds=3, width=8, iterations=40)
    assert found["neural"] < 0.9 * found["normalized"] < 0.9 * found["uniform"]


def test_held_out_tasks_do_not_take_part_in_the_fit():
    """Where an adapter has nothing to do with the others, there is nothing to be gained on it."""
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(16, 400))
    found = cross_validate(np.abs(rng.normal(size=(16, 16))), noise @ noise.T, folds=2, width=8, iterations=40)
    assert found["neural"] > 1.0


@given(
    d=arrays(np.float64, st.integers(1, 12), elements=st.integers(0, 3000).map(lambda n: n / 100)),
    t=st.floats(0, allow_nan=False),
    data=st.data(),
)
@settings(max_examples=50)
def test_weights_are_on_the_simplex_and_follow_a_permutation(d, t, data):
    weights = FITTED.weights(d, temperature=t)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    order = np.array(data.draw(st.permutations(range(len(d)))))
    np.testing.assert_allclose(FITTED.weights(d[order]), FITTED.weights(d)[order], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(FITTED.weights(3 * d + 1), FITTED.weights(d), rtol=1e-5, atol=1e-7)


def test_the_limits_of_the_temperature():
    d = np.array([0.3, 0.1, 0.7, 0.2])
    assert sorted(FITTED.weights(d, temperature=0)) == [0, 0, 0, 1]
    np.testing.assert_array_equal(FITTED.weights(d, temperature=np.inf), [0.25] * 4)
    np.testing.assert_array_equal(FITTED.weights(np.ones(5)), [0.2] * 5)


def test_the_same_input_gives_the_same_operator():
    again = fit_neural(D, G, width=8, iterations=60)
    for name, value in FITTED.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], value)
    assert fit_neural(D, G, width=8, iterations=5, seed=1).parameters["hidden1.bias"][0] != pytest.approx(
        FITTED.parameters["hidden1.bias"][0]
    )


def test_the_diagonal_of_the_distances_is_not_used():
    odd = D.copy()
    np.fill_diagonal(odd, np.nan)
    assert fit_neural(odd, G, width=8, iterations=60).errors == FITTED.errors


def test_an_adapter_that_is_zero_is_no_target():
    padded_d, padded_g = np.ones((15, 15)), np.zeros((15, 15))
    padded_d[:14, :14], padded_g[:14, :14] = D, G
    errors = fit_neural(padded_d, padded_g, width=4, iterations=10).errors
    assert all(np.isfinite(value) for value in errors.values())


@pytest.mark.parametrize(
    ("distances", "gram", "options", "message"),
    [
        (D[:2, :2], G[:2, :2], {}, "three or more"),
        (D[:3], G, {}, "square"),
        (D, G[:5, :5], {}, "of one size"),
        (np.where(np.eye(14, k=1), np.inf, D), G, {}, "finite"),
        (D, np.zeros_like(G), {}, "every adapter is zero"),
        (D, G, {"width": 0}, "width"),
    ],
)
def test_what_cannot_be_fitted_is_refused(distances, gram, options, message):
    with pytest.raises(UsageError, match=message):
        fit_neural(distances, gram, **options)
