"""Averaged factors (Σ w B)(Σ w A) against the sum Σ w B A, by how alike the A's are.

The model: A_i = √ρ A_0 + √(1−ρ) E_i and B_i, all entries independent with mean 0, and Σ w = 1. Then, with
v = ρ + (1−ρ) Σ w², the entries of Σ w A have variance v, and with units in which E‖B_i A_i‖² = 1

    E‖sum‖² = Σ w²,   E‖factor‖² = v Σ w²,   E⟨factor, sum⟩ = ρ Σ w² + (1−ρ) Σ w³,

because only pairs with the same B survive the expectation. For uniform weights all of it is v = ρ + (1−ρ)/N: the
cosine is √v, and the averaged factors are the sum's shadow, shorter by √v, at the relative error √(1−v). The cosine at
the best rank r is that of the leading eigenvalue of w wᵀ ∘ C, C_ij = ρ + (1−ρ) δ_ij, over its trace; for uniform
weights √v again.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorameta.adapter import Adapter, LoraPair
from lorameta.combiner import combine


def moments(rho: float, w: np.ndarray) -> tuple[float, float, float]:
    """E‖sum‖², E‖factor‖² and E⟨factor, sum⟩, in units of E‖B A‖²."""
    second, third = float((w**2).sum()), float((w**3).sum())
    return second, (rho + (1 - rho) * second) * second, rho * second + (1 - rho) * third


def factor_cosine(rho: float, w: np.ndarray) -> float:
    total, factor, inner = moments(rho, w)
    return inner / np.sqrt(total * factor)


def best_cosine(rho: float, w: np.ndarray) -> float:
    """Of the best approximation that has the rank of one adapter."""
    kernel = np.outer(w, w) * (rho + (1 - rho) * np.eye(len(w)))
    return float(np.sqrt(np.linalg.eigvalsh(kernel)[-1] / np.trace(kernel)))


def draw(rng: np.random.Generator, rho: float, count: int, rank: int, out: int, into: int):
    A = np.sqrt(rho) * rng.normal(size=(rank, into)) + np.sqrt(1 - rho) * rng.normal(size=(count, rank, into))
    return A, rng.normal(size=(count, out, rank))


WEIGHTS = {
    "uniform": np.full(8, 1 / 8),
    "uneven": np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05]),
    "signed": np.array([0.9, -0.4, 0.3, 0.2]),
}


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.vdot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)))


def test_the_two_ends_and_the_middle():
    uniform = np.full(10, 0.1)
    assert factor_cosine(1.0, uniform) == pytest.approx(1.0)
    assert factor_cosine(0.0, uniform) == pytest.approx(1 / np.sqrt(10))
    for cosine_of in (factor_cosine, best_cosine):
        assert cosine_of(0.3, uniform) == pytest.approx(np.sqrt(0.3 + 0.7 / 10))
    assert factor_cosine(0.3, np.eye(1, 10)[0]) == pytest.approx(1.0)  # one adapter alone has no cross-terms


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("rho", [0.0, 0.25, 0.7, 1.0])
def test_the_moments_are_exact_at_any_size(kind, rho):
    """Many small draws: their means agree with the formula within their own standard error."""
    w, rank, out, into, draws = WEIGHTS[kind], 2, 3, 4, 6000
    rng = np.random.default_rng(17)
    A = np.sqrt(rho) * rng.normal(size=(draws, 1, rank, into))
    A = A + np.sqrt(1 - rho) * rng.normal(size=(draws, len(w), rank, into))
    B = rng.normal(size=(draws, len(w), out, rank))
    total = np.einsum("n,dnor,dnri->doi", w, B, A)
    factor = np.einsum("n,dnor->dor", w, B) @ np.einsum("n,dnri->dri", w, A)
    unit = rank * out * into
    for found, expected in zip(
        ((total**2).sum((1, 2)), (factor**2).sum((1, 2)), (total * factor).sum((1, 2))), moments(rho, w), strict=True
    ):
        assert abs(found.mean() / unit - expected) < 4.5 * found.std() / unit / np.sqrt(draws)


@pytest.mark.parametrize("count", [2, 10, 40])
@pytest.mark.parametrize("rho", [0.0, 0.2, 0.6, 1.0])
def test_the_combiners_do_what_the_formula_says(rho, count):
    """Large random adapters through lorameta.combiner: cosine, length and reported error of the averaged factors."""
    rng = np.random.default_rng(5)
    rank, out, into, w = 2, 256, 256, np.full(count, 1 / count)
    v = rho + (1 - rho) / count
    cosines, lengths, errors = [], [], []
    for _ in range(4):
        A, B = draw(rng, rho, count, rank, out, into)
        adapters = [Adapter({"m": LoraPair(a, b)}, "base") for a, b in zip(A, B, strict=True)]
        total = np.einsum("n,nor,nri->oi", w, B, A)
        modules, reported = combine(adapters, w, method="factor")
        factor = modules["m"].delta()
        cosines.append(cosine(total, factor))
        lengths.append(float(np.linalg.norm(factor) / np.linalg.norm(total)))
        errors.append(reported["m"])
    for found, expected in ((cosines, np.sqrt(v)), (lengths, np.sqrt(v)), (errors, np.sqrt(1 - v))):
        slack = 4 * np.std(found) / np.sqrt(len(found)) + 4 / out
        assert np.mean(found) == pytest.approx(expected, abs=slack)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 1.0])
def test_every_combiner_is_exact_where_the_parts_are_orthogonal(kind, rho):
    """The limit of large matrices, made at once: all B_i, and A_0 with all E_i, orthonormal to each other."""
    w, rank, size = WEIGHTS[kind], 2, 24
    rng = np.random.default_rng(11)
    frame, other = (np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(2))
    E = frame[: (len(w) + 1) * rank].reshape(len(w) + 1, rank, size)
    A = np.sqrt(rho) * E[0] + np.sqrt(1 - rho) * E[1:]
    B = other[: len(w) * rank].reshape(len(w), rank, size).transpose(0, 2, 1)
    adapters = [Adapter({"m": LoraPair(a, b)}, "base") for a, b in zip(A, B, strict=True)]
    total = np.einsum("n,nor,nri->oi", w, B, A)
    merged = {name: combine(adapters, w, method=name)[0]["m"].delta() for name in ("concat", "delta", "factor")}
    assert cosine(merged["concat"], total) == pytest.approx(1, abs=1e-6)
    assert cosine(merged["delta"], total) == pytest.approx(best_cosine(rho, w), abs=1e-5)
    assert cosine(merged["factor"], total) == pytest.approx(factor_cosine(rho, w), abs=1e-5)


def test_uneven_weights_are_where_delta_is_nearer_than_averaged_factors():
    """At equal rank: nothing to gain for uniform weights in this model, much for one large weight and unlike A's."""
    uniform, uneven = WEIGHTS["uniform"], WEIGHTS["uneven"]
    assert best_cosine(0.0, uniform) == pytest.approx(factor_cosine(0.0, uniform))
    assert best_cosine(0.0, uneven) > factor_cosine(0.0, uneven) + 0.1
    assert best_cosine(1.0, uneven) == pytest.approx(factor_cosine(1.0, uneven))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_no_merge_of_that_rank_is_nearer_than_delta(seed, count, rank, signed):
    """Eckart and Young, for whatever factors: `factor` has the rank of the adapters too, so it cannot be nearer."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=count) if signed else rng.dirichlet(np.ones(count))
    pairs = [LoraPair(rng.normal(size=(rank, 7)), rng.normal(size=(9, rank))) for _ in range(count)]
    total = sum(x * pair.delta().astype(np.float64) for x, pair in zip(w, pairs, strict=True))
    adapters = [Adapter({"m": pair}, "base") for pair in pairs]
    (delta, delta_error), (factor, factor_error) = (combine(adapters, w, method=m) for m in ("delta", "factor"))
    assert cosine(delta["m"].delta(), total) >= cosine(factor["m"].delta(), total) - 1e-5
    assert delta_error["m"] <= factor_error["m"] + 1e-6
    assert cosine(delta["m"].delta(), total) == pytest.approx(np.sqrt(1 - min(1.0, delta_error["m"]) ** 2), abs=2e-3)
