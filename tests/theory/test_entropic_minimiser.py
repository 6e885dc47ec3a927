"""The attentional weights are the unique minimiser over the simplex of ⟨w, d⟩ + T Σ w ln w (Gibbs' principle)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import logsumexp, rel_entr, xlogy

from lorameta.operator import mixing_weights

rows = arrays(np.float64, st.integers(1, 60), elements=st.floats(-5, 5, width=32))
temperatures = st.floats(0.05, 20)


def objective(w: np.ndarray, d: np.ndarray, temperature: float) -> float:
    return float(w @ d + temperature * xlogy(w, w).sum())


@given(rows, temperatures)
def test_the_minimum_is_the_free_energy(d, temperature):
    w = mixing_weights(d, "attentional", temperature=temperature)
    assert objective(w, d, temperature) == pytest.approx(-temperature * logsumexp(-d / temperature), abs=1e-9)


@given(rows, temperatures, st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.3, 1.0, 10.0]))
def test_any_other_point_of_the_simplex_is_worse_by_its_divergence(d, temperature, seed, spread):
    """F(v) − F(w) = T KL(v ‖ w), which is above 0 unless v = w: the minimiser is unique."""
    w = mixing_weights(d, "attentional", temperature=temperature)
    v = np.random.default_rng(seed).dirichlet(np.full(len(d), spread))
    excess = objective(v, d, temperature) - objective(w, d, temperature)
    # Not through w, whose far entries underflow: ln w = -d/T - ln Σ exp(-d/T).
    log_w = -d / temperature - logsumexp(-d / temperature)
    assert excess == pytest.approx(temperature * float((xlogy(v, v) - v * log_w).sum()), abs=1e-8)
    assert excess >= temperature * 0.5 * np.abs(v - w).sum() ** 2 - 1e-8  # Pinsker: and worse by how far it is away


@pytest.mark.parametrize("seed", range(6))
def test_a_solver_that_knows_no_formula_finds_the_same_point(seed):
    rng = np.random.default_rng(seed)
    d, temperature = rng.normal(size=rng.integers(2, 12)), rng.uniform(0.3, 2)
    found = minimize(
        objective,
        np.full(len(d), 1 / len(d)),
        args=(d, temperature),
        method="SLSQP",
        bounds=[(1e-12, 1)] * len(d),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-13, "maxiter": 500},
    )
    w = mixing_weights(d, "attentional", temperature=temperature)
    np.testing.assert_allclose(w, found.x, atol=2e-5)
    assert objective(w, d, temperature) <= found.fun + 1e-12


@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1, width=32)), temperatures)
def test_normalized_weights_minimise_it_for_the_standardised_row(d, temperature):
    if d.std() < 1e-6:
        return
    z = (d - d.mean()) / d.std()
    w = mixing_weights(d, "normalized", temperature=temperature)
    assert objective(w, z, temperature) == pytest.approx(-temperature * logsumexp(-z / temperature), abs=1e-8)


@given(rows, temperatures)
def test_a_higher_temperature_never_costs_entropy(d, temperature):
    cold, warm = (mixing_weights(d, "attentional", temperature=t) for t in (temperature, 2 * temperature))
    assert -xlogy(warm, warm).sum() >= -xlogy(cold, cold).sum() - 1e-9
    uniform = np.full(len(d), 1 / len(d))
    assert rel_entr(warm, uniform).sum() <= rel_entr(cold, uniform).sum() + 1e-9
